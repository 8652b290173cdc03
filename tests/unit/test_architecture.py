"""Imports point one way, libraries of the outside world have one door each, and modules stay small."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "mlship"

DOCUMENT = ROOT.parent / "docs/architecture.md"
ENDINGS = ("", ".py", ".toml")
# Parts of a folder that do not know each other.
APART = (
    ("doctor.facts", "doctor.rules"),
    ("doctor.facts", "doctor.probes"),
    ("doctor.rules", "doctor.probes"),
    ("doctor.rules", "doctor.diagnose"),
    ("doctor.diagnose", "doctor.probes"),
    ("doctor.probes", "doctor.rules"),
)
DOORS = {
    "typer": ("cli",),
    "docker": ("engine.sdk",),
    "mlship.engine.docker": ("engine",),
    "mlship.engine.client": ("engine",),
    "mlship.engine.local": ("engine",),
    "mlship.engine.sdk": ("engine", "registry"),
    "requests": ("registry.client", "registry.s3", "lock.index", "weights.download"),
    "ctypes": ("driver.ask", "smoke.inside"),
    "pynvml": ("driver.codes",),
    "subprocess": ("process", "smoke.inside.program", "smoke.inside.pod"),
    "socket": ("engine.local", "smoke.inside"),
    "jinja2": ("render", "project.chat_templates"),
    "backports": ("size.stream",),
    "tarfile": ("size", "engine.archive", "project.contents"),
}
# Programs that run in a container or a build, where mlship is not: their doors are their own.
INSIDE = ("image.inside",)
LONGEST_MODULE = 400
LONGEST_FUNCTION = 50
MOST_LINES = 58_100  # of Python in mlship/: lower it with the code; a new feature makes room for itself


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def imports(tree: ast.Module) -> tuple[str, ...]:
    return tuple(_imports(tree))


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement, however deep; unlike ast.walk it passes over expressions, which are ten times as many."""
    for node in nodes:
        yield node
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from statements(getattr(node, field, ()))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


@cache
def folders() -> dict[str, tuple[str, ...]]:
    """The table of folders in the document, from top to bottom, each with what it must not import."""
    rows = re.findall(r"(?m)^\| `(\w+)/` \|.*\| ([^|]*)\|$", DOCUMENT.read_text(encoding="utf-8"))
    return {folder: tuple(part.replace("/", ".") for part in re.findall(r"`(.+?)`", last)) for folder, last in rows}


def layer(name: str) -> int:
    """The row of a module's folder; the ground floor is below the last."""
    order = ["__main__", *folders()]
    top = name.partition(".")[0]
    return order.index(top) if top in order else len(order)


def test_the_document_lists_every_folder_and_no_other() -> None:
    assert set(folders()) == {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name.partition(".")[0] for last in folders().values() for name in last} <= {
        path.stem for path in ROOT.iterdir()
    }


def test_the_document_lists_every_file_of_data() -> None:
    paragraph = next(line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("`data/`"))
    assert set(re.findall(r"`(\w+)/?`", paragraph)) - {"data"} == {path.stem for path in (ROOT / "data").iterdir()}


@pytest.mark.parametrize("document", [DOCUMENT, ROOT.parent / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_every_path_in_the_documents_exists(document: Path) -> None:
    """Paths from the repository or from mlship/; and names in the rows of folders, from that folder or from mlship/."""
    text = document.read_text(encoding="utf-8")
    named = [
        (ROOT, path)
        for path in re.findall(r"(?<![\w/.:@~])[\w-]+(?:/[\w.-]*\w)+", text)
        if path not in {"I/O", "info/RECORD"}
    ]
    for folder, row in re.findall(r"(?m)^(?:\| )?`(\w+)/` (.+)$", text):
        named += [(ROOT / folder, name) for name in re.findall(r"`([a-z_]+)/?`", row)]
    assert len(named) > 20
    missing = [
        f"{folder.name}: {name}"
        for folder, name in named
        if not any((place / f"{name}{end}").exists() for place in (folder, ROOT, ROOT.parent) for end in ENDINGS)
    ]
    assert missing == []


def test_imports_point_down_and_io_stays_at_the_edge() -> None:
    wrong = []
    apart = (*APART, *((folder, part) for folder, last in folders().items() for part in last))
    for name, tree in modules().items():
        for target in imports(tree):
            top, _, rest = target.partition(".")
            if top == "mlship" and rest and layer(rest) < layer(name):
                wrong.append(f"{name} imports {rest}")
            if top == "mlship" and any(below(name, a) and below(rest, b) for a, b in apart):
                wrong.append(f"{name} must not know {rest}")
            wrong += [
                f"{name} imports {door}; only {' and '.join(places)} may"
                for door, places in DOORS.items()
                if below(target, door) and not any(below(name, place) for place in (*places, *INSIDE))
            ]
    assert not wrong, "\n".join(wrong)


def test_what_runs_inside_an_image_needs_the_standard_library_alone() -> None:
    """And the base image's pip, which is there until it is removed."""
    allowed = sys.stdlib_module_names | {"install", "request", "pip"}
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules().items()
        if any(below(name, place) for place in INSIDE)
        for target in imports(tree)
        if target.partition(".")[0] not in allowed and not target.startswith("mlship.image.inside.")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_probes_of_doctor_touch_the_world() -> None:
    """Facts, rules and diagnosis are pure; a facts file is read by one module."""
    world = {"os", "pathlib", "ctypes", "subprocess", "socket", "mlship.process", "mlship.files", "mlship.engine"}
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules().items()
        if below(name, "doctor") and not below(name, "doctor.probes") and name != "doctor.facts.replay"
        for target in imports(tree)
        if target in world or any(target.startswith(f"{one}.") for one in world)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_init_detects() -> None:
    """No other command pays for what `mlship init` needs, or depends on what it guesses."""
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules().items()
        if not below(name, "init") and name not in {"cli.init", "report.init"}
        for target in imports(tree)
        if below(target, "mlship.init")
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_no_cycles() -> None:
    known = modules()
    edges = {
        name: {
            rest
            for target in imports(tree)
            if target.startswith("mlship.") and (rest := target[7:]) in known and rest != name
        }
        for name, tree in known.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in sorted(edges[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in known:
        visit(name, ())


def test_modules_and_functions_stay_small() -> None:
    found = modules()
    long = [f"{name}: {end(tree)} lines" for name, tree in found.items() if end(tree) > LONGEST_MODULE]
    long += [
        f"{name}.{node.name}: {end(node) - node.lineno} lines"
        for name, tree in found.items()
        for node in statements(tree.body)
        if isinstance(node, ast.FunctionDef) and end(node) - node.lineno > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_the_package_does_not_grow() -> None:
    """What a person can hold in their head is bounded; knowledge as TOML does not count."""
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")) <= MOST_LINES


def end(node: ast.Module | ast.FunctionDef) -> int:
    return max((child.end_lineno or 0 for child in node.body), default=0)


def test_a_public_class_name_exists_once() -> None:
    """Type aliases count too: a name that a reader searches for leads to one place."""
    places: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for node in tree.body:
            if (name := public_type(node)) is not None:
                places.setdefault(name, []).append(module)
    twice = [f"{name}: {', '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1]
    assert not twice, "\n".join(twice)


def public_type(node: ast.stmt) -> str | None:
    """The name of a class or a type alias that the statement defines, unless it is private."""
    if isinstance(node, ast.ClassDef):
        name = node.name
    elif (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "TypeAlias" in ast.unparse(node.annotation)
    ):
        name = node.target.id
    else:
        return None
    return None if name.startswith("_") else name


def test_test_modules_import_no_test_modules() -> None:
    """What tests share is in tests/helpers or a conftest.py."""
    tests = ROOT.parent / "tests"
    wrong = [
        f"{path.relative_to(tests)} imports {target}"
        for path in sorted(tests.rglob("*.py"))
        if re.search(
            r"(from|import) tests(\.(?!helpers|conftest|simgpu)| import)", text := path.read_text(encoding="utf-8")
        )
        for target in imports(ast.parse(text))
        if re.match(r"tests\.(\w+\.)*test_\w+$", target)
    ]
    assert not wrong, "\n".join(wrong)


def test_start_up_imports_nothing_heavy() -> None:
    """Libraries that cost start-up time are imported in functions only."""
    heavy = {"docker", "onnx", "jinja2", "requests", "numpy", "backports"}
    found = [
        f"{name} imports {alias} at import"
        for name, tree in modules().items()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in imports(ast.Module([node], []))
        if alias.partition(".")[0] in heavy
    ]
    assert not found, "\n".join(found)


# Programs that run without mlship, as text in a container or a subprocess: their names meet no others.
ALONE = ("image.inside", "smoke.inside", "doctor.probes.inside", "driver.ask")


def test_a_public_function_name_exists_once() -> None:
    """Except `main`."""
    places: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "main":
                places.setdefault(node.name, []).append(module)
    found = {
        name: [module for module in homes if not any(below(module, place) for place in ALONE)]
        for name, homes in places.items()
    }
    twice = {name: homes for name, homes in found.items() if len(homes) > 1}
    assert not twice, "\n".join(f"{name}: {', '.join(homes)}" for name, homes in sorted(twice.items()))


def test_unit_tests_mirror_the_folders() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if any(path.glob("test_*.py"))}
    assert folders <= {path.name for path in ROOT.iterdir() if path.is_dir()} | {"scripts"}


def test_pytest_enters_every_folder_of_tests(pytestconfig: pytest.Config) -> None:
    """By default pytest skips folders with names such as `build`, without a word."""
    skipped: list[str] = pytestconfig.getini("norecursedirs")
    tests = ROOT.parent / "tests"
    names = {part for path in tests.rglob("test_*.py") for part in path.relative_to(tests).parent.parts}
    assert [name for name in sorted(names) if any(fnmatch(name, pattern) for pattern in skipped)] == []
