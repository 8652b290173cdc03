"""Render templates. Missing values are errors, YAML values are quoted, HTML values are escaped."""

import json
import os
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from mlship import __version__
from mlship.resources import cache_folder, read_template

if TYPE_CHECKING:
    from jinja2 import BytecodeCache, Environment

_PLAIN = re.compile(r"(?!\.\.\.|---)[\w./-][\w./@%+-]*([:=][\w./@%+-]+)*")


def render_page(template_name: str, **values: object) -> str:
    """Render a page without characters that cannot be seen, which facts and files of others may hold."""
    page = render(template_name, **values)
    return "".join(character for character in page if character == "\n" or character.isprintable())


def render(template_name: str, **values: object) -> str:
    """Render a template, given by its path in the template folder; the same values give the same bytes.

    Raises:
        jinja2.UndefinedError: a value of the template is missing.
    """
    return _environment().get_template(template_name).render(values)


@cache
def yaml_scalar(text: str) -> str:
    """`text` as a YAML scalar that parses to the same text in block and flow context."""
    import yaml

    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return python_string(text)  # also a double-quoted YAML string


def python_string(text: str) -> str:
    """`text` as a string literal of Python, without characters that cannot be seen."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FunctionLoader(read_template),
        undefined=StrictUndefined,
        # Only values in HTML are escaped; Dockerfiles and YAML have their own quoting.
        autoescape=select_autoescape(("html.j2",), default_for_string=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_compiled(),
    )
    environment.filters["yaml"] = yaml_scalar
    return environment


def _compiled() -> "BytecodeCache | None":
    """Keeps compiled templates, with a hash of their source, in a folder of this user; None if there is none."""
    from jinja2 import FileSystemBytecodeCache
    from jinja2.bccache import Bucket

    class Compiled(FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):  # a full or read-only disk: compile it again next time
                super().dump_bytecode(bucket)

    folder = cache_folder() / "templates"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():  # it holds code
            return Compiled(str(folder), f"{__version__}-%s")
    return None
