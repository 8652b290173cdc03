"""Chat templates are programs, and some loaders render them without a sandbox: what reaches out of one is named.

https://jinja.palletsprojects.com/en/stable/sandbox/, CVE-2024-34359. Templates are parsed, never rendered.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from mlship import plain

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

_LONGEST = 1 << 20  # characters; the longest known templates have about 20,000
_OF_TRANSFORMERS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_DUNDER = re.compile(r"__\w+|\w+__(?!\w)")
# https://github.com/pallets/jinja/blob/main/src/jinja2/sandbox.py: `is_internal_attribute`
_FRAMES = r"(?:func|gi|cr|ag|tb|f)_(?:closure|code|dict|defaults|frame|globals|builtins|locals|back)"
_INNER = re.compile(rf"_\w*__\w*|mro|{_FRAMES}")
_UNDERSCORES = re.compile(r"_+")
_OUTSIDE = {"lipsum", "cycler", "joiner", "self"}  # names of Jinja that lead to Python's own modules
_FILES = ("Include", "Import", "FromImport", "Extends")


def template_texts(text: bytes) -> Iterator[str]:
    """The templates in a tokenizer_config.json or chat_template.json; none in other JSON.

    https://huggingface.co/docs/transformers/main/chat_templating_writing
    """
    found = plain.at(plain.json_of(text), "chat_template")
    if isinstance(found, dict):
        found = list(found.values())
    for each in found if isinstance(found, list) else [found]:
        template = each.get("template") if isinstance(each, dict) else each
        if isinstance(template, str):
            yield template


def reaches_out(template: str) -> frozenset[str]:
    """What a template uses that no chat needs and that leads out of a sandbox; empty if there is nothing."""
    from jinja2 import TemplateSyntaxError

    if len(template) > _LONGEST:
        return frozenset({"a template that is too long to check"})
    try:
        tree = _environment().parse(_OF_TRANSFORMERS.sub("", template))
    except (TemplateSyntaxError, RecursionError):  # other loaders may still accept it
        return frozenset(_DUNDER.findall(template)) | ({"attr"} if "attr" in template else frozenset())
    try:
        return frozenset(_found(tree))
    except RecursionError:
        return frozenset({"a template that is too deep to check"})


@cache
def _environment() -> "Environment":
    from jinja2 import Environment

    # Only parsed, so nothing is escaped or run.
    return Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"])  # noqa: S701


def _found(tree: "nodes.Node") -> Iterator[str]:
    from jinja2 import nodes

    stored = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Getattr) and _INNER.fullmatch(node.attr):
            yield node.attr
        elif isinstance(node, nodes.Getitem) and (name := _text(node.arg)) and _INNER.fullmatch(name):
            yield name
        elif isinstance(node, nodes.Filter) and node.name == "attr":
            name = _text(node.args[0]) if node.args else None
            if name is None or _INNER.fullmatch(name):
                yield name or "attr"
        elif isinstance(node, nodes.Name) and node.name in _OUTSIDE - stored:
            yield node.name
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            yield from _DUNDER.findall(node.value)
        elif type(node).__name__ in _FILES:
            yield type(node).__name__.lower()
        elif isinstance(node, nodes.Concat | nodes.Add | nodes.Mul | nodes.Mod | nodes.List | nodes.Tuple):
            texts = (_text(part) for part in node.iter_child_nodes())
            yield from (text for text in texts if text and _UNDERSCORES.fullmatch(text))


def _text(node: "nodes.Node") -> str | None:
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else None
