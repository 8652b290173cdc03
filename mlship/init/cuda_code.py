"""How a source file uses CUDA: whether it requires a GPU or uses one if available. Parsed, never run."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlship.init.known import init_table
from mlship.project.syntax import constant_text, last_name, parameters

PROVIDER = "CUDAExecutionProvider"
_PROVIDERS = {PROVIDER, "TensorrtExecutionProvider"}
_GPU_CHECKS = init_table().patterns["gpu_checks"]
_DEVICE_WORDS = {"device", "device_map", "map_location", "device_type"}


@dataclass(frozen=True)
class CudaUse:
    """How a source file uses CUDA.

    Attributes:
        named: expressions that select a GPU: `device="cuda"`, `.cuda()`, CUDAExecutionProvider.
        checks: the file checks for a GPU, or handles "cuda" and "cpu" differently.
        required: importing the file or calling its loader fails without a GPU.
    """

    named: tuple[str, ...] = ()
    checks: bool = False
    required: bool = False


def find_cuda_use(nodes: Sequence[ast.AST]) -> CudaUse:
    """Find the CUDA use in all AST nodes of one file."""
    found, checks, required = set[str](), False, False
    names = (node for node in nodes if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load))
    used = set(map(last_name, names))
    choices = {id(one) for node in nodes for one in _choices(node) if last_name(one.targets[0]) not in used}
    for node in nodes:
        found.update(_named(node) if id(node) not in choices else ())
        checks = checks or _checks(node)
        required = required or any(map(_requires, _unconditional(node)))
    return CudaUse(tuple(sorted(found)), checks, required)


def _unconditional(node: ast.AST) -> list[ast.stmt]:
    """Statements that run when a module is imported or its `load...()` is called; others may never run."""
    if isinstance(node, ast.Module) or (isinstance(node, ast.FunctionDef) and node.name.startswith("load")):
        return node.body
    return []


def _choices(node: ast.AST) -> list[ast.Assign]:
    """Constants or members of an enumeration, one of which is "cpu": a program may choose one of them elsewhere."""
    body = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
    constants = [one for one in body if isinstance(one, ast.Assign)]
    return constants if "cpu" in [_text(one.value) for one in constants] else []


def _named(node: ast.AST) -> Iterator[str]:
    """Expressions that pass "cuda" on. Comparisons and lists of choices do not count."""
    match node:
        case ast.Call(func=ast.Attribute(attr="cuda"), args=[]):
            yield ".cuda()"
        case ast.Call(func=called, args=[ast.Constant(value=str(device)), *_]) if _is_cuda(device):
            yield f'{last_name(called) or "..."}("{device}")'
        case ast.keyword(arg=str(name), value=ast.Constant(value=str(device))) if _is_cuda(device):
            if name in _DEVICE_WORDS:
                yield f'{name}="{device}"'
        case ast.Assign(targets=[target], value=ast.Constant(value=str(device))) if _is_cuda(device):
            yield f'{last_name(target) or "..."} = "{device}"'
        case ast.arguments():  # `def load(device="cuda")`
            texts = {one.arg: _text(default) for one, default in parameters(node)}
            yield from (f'{name}="{device}"' for name, device in texts.items() if _is_cuda(device))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            yield from (text for text in map(_provider, elements) if text)
        case ast.IfExp(body=body, orelse=otherwise):
            yield from (f'"{device}"' for device in map(_text, (body, otherwise)) if _is_cuda(device))
        case _:
            return


def _provider(element: ast.expr) -> str:
    """An onnxruntime GPU provider, with or without options; empty for anything else."""
    text = _text(element.elts[0] if isinstance(element, ast.Tuple) and element.elts else element)
    return text if text in _PROVIDERS else ""


def _checks(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return _GPU_CHECKS.fullmatch(name) is not None
        case ast.Compare(left=left, comparators=others):
            return any(_is_cuda(text) or text in _PROVIDERS for text in map(_text, (left, *others)))
        case ast.IfExp(body=body, orelse=otherwise):
            return {True, False} == {_is_cuda(_text(body)), _is_cuda(_text(otherwise))}
        case ast.If(body=body, orelse=[_, *_] as otherwise):
            return _names_any(body) and not _names_any(otherwise)
        case _:
            return False


def _names_any(body: list[ast.stmt]) -> bool:
    return any(True for statement in body for node in ast.walk(statement) for _ in _named(node))


def _requires(node: ast.stmt) -> bool:
    """`assert torch.cuda.is_available()`, or `raise` if it is false."""
    match node:
        case ast.Assert(test=test) | ast.If(test=ast.UnaryOp(op=ast.Not(), operand=test), body=[ast.Raise(), *_]):
            return any(_checks(part) for part in ast.walk(test))
        case _:
            return False


def _text(node: ast.expr | None) -> str:
    return constant_text(node) or ""


def _is_cuda(text: str) -> bool:
    return text == "cuda" or (text.startswith("cuda:") and text[5:].isdecimal())
