"""Templates as text. A value that is missing is an error, YAML values are quoted, and values in HTML are escaped."""

import json
import re
from functools import cache
from typing import TYPE_CHECKING

from mlship.resources import read_template

if TYPE_CHECKING:
    from jinja2 import Environment

_PLAIN = re.compile(r"(?!\.\.\.|---)[\w./-][\w./@%+-]*([:=][\w./@%+-]+)*")


def render(template_name: str, **values: object) -> str:
    """Fill one template, named by its path below the template folder; the same values give the same bytes.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
    """
    return _environment().get_template(template_name).render(values)


def yaml_scalar(text: str) -> str:
    """`text` as a YAML scalar that reads back as the same text, in block and in flow context."""
    import yaml

    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)  # a JSON string is a double-quoted YAML one
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def _is_html(template_name: str | None) -> bool:
    """Its values are escaped; Dockerfiles and YAML have rules of their own."""
    return template_name is not None and template_name.endswith(".html.j2")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(read_template),
        undefined=StrictUndefined,
        autoescape=_is_html,  # noqa: S701  what is not HTML has rules of its own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = yaml_scalar
    return environment
