"""Libraries that serve: recognised by what a name stands for, however it is imported, and by nothing else."""

import ast
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.init.serving_libraries import find_served, read_address
from mlship.project.serving_table import serving_table

MARKS = sorted(serving_table().by_mark)


def _nodes(text: str) -> Sequence[ast.AST]:
    return tuple(ast.walk(ast.parse(text)))


@st.composite
def _imported(draw: st.DrawFn) -> tuple[str, str, str]:
    """A mark, an import that brings it, and the name that the code then has for it."""
    parts = (mark := draw(st.sampled_from(MARKS))).split(".")
    depth = draw(st.integers(1, len(parts)))
    inner = ".".join(parts[depth:])
    if depth == len(parts):  # the name itself
        local = draw(st.sampled_from([parts[-1], "other"]))
        rename = "" if local == parts[-1] else f" as {local}"
        return mark, f"from {'.'.join(parts[:-1])} import {parts[-1]}{rename}", local
    if draw(st.booleans()):
        return mark, f"import {'.'.join(parts[:depth])} as x", f"x.{inner}"
    if depth > 1 and draw(st.booleans()):
        return mark, f"from {'.'.join(parts[: depth - 1])} import {parts[depth - 1]}", f"{parts[depth - 1]}.{inner}"
    return mark, f"import {'.'.join(parts[:depth])}", mark


@given(_imported(), st.sampled_from(["{}()", "x1 = {}(a, port=1)", "@{}\ndef f(): pass", "@{}(a=1)\nclass C: pass"]))
def test_a_use_is_found_however_it_is_imported(found: tuple[str, str, str], use: str) -> None:
    mark, statement, local = found
    (served,) = find_served(_nodes(f"{statement}\n{use.format(local)}\n"))
    assert (served.library, served.line) == (serving_table().by_mark[mark], 2)


@given(_imported())
def test_a_name_of_something_else_is_no_use(found: tuple[str, str, str]) -> None:
    _, statement, local = found
    assert not find_served(_nodes(f"{statement}\n"))  # imported only
    assert not find_served(_nodes(f"{local}()\n"))  # not imported
    assert not find_served(_nodes(f"{statement.replace('import ', 'import not_', 1)}\n{local}()\n"))
    if statement.startswith("from "):
        assert not find_served(_nodes(f"{statement.replace('from ', 'from .', 1)}\n{local}()\n"))


def test_the_table_has_a_source_for_each_library() -> None:
    table = serving_table()
    sources = [row.source for rows in (table.library, table.server.values(), table.app.values()) for row in rows]
    assert all(source.startswith("https://") for source in sources)
    assert len(table.by_mark) == sum(len(row.marks) for row in table.library)  # no mark is in two rows


@pytest.mark.parametrize(
    ("call", "port"),
    [
        ("run(port=9000)", 9000),
        ("run(port='9000')", 9000),
        ("run('0.0.0.0', 9000)", 9000),
        ("run()", None),
        ("run(port=args.port)", 0),
        ("run(**options)", 0),
        ("run(*options)", 0),
        ("start(port=1)", 0),
    ],
)
@pytest.mark.parametrize("form", ["server = ls.LitServer(Api())\nserver.{}", "ls.LitServer(Api()).{}"])
def test_the_port_is_read_or_unknown(call: str, port: int | None, form: str) -> None:
    nodes = _nodes(f"import litserve as ls\n{form.format(call)}\n")
    assert read_address(nodes, find_served(nodes)).port == port
