"""Parts of syntax trees: names, parameters with their defaults, assignments."""

import ast

import pytest

from mlship.project.syntax import assigned, dotted, keyword_value, last_name, parameters, parse_source, tree_or_problem


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "whole", "last"), [("a", "a", "a"), ("a.b.c", "a.b.c", "c"), ("f().c", "", "c"), ("1", "", "")]
)
def test_names(text: str, whole: str, last: str) -> None:
    assert (dotted(_expression(text)), last_name(_expression(text))) == (whole, last)


@pytest.mark.parametrize("source", ["print 1", "\0", "(" * 10_000])
def test_a_file_that_is_not_python(source: str) -> None:
    assert parse_source(source) is None
    assert "None" not in str(tree_or_problem(source))  # such as its line


def test_parameters_and_defaults() -> None:
    function = ast.parse("def f(a, /, b=1, *rest, c, d=2, **more): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    found = {one.arg: default and ast.unparse(default) for one, default in parameters(function)}
    assert found == {"a": None, "b": "1", "c": None, "d": "2"}
    assert found == {one.arg: default and ast.unparse(default) for one, default in parameters(function.args)}


def test_every_target_of_an_assignment() -> None:
    nodes = ast.parse("a = b.c = 1\nd: int = 2\ne: int\nf += 3").body
    pairs = [(ast.unparse(target), ast.unparse(value)) for node in nodes for target, value in assigned(node)]
    assert pairs == [("a", "1"), ("b.c", "1"), ("d", "2")]


def test_the_first_of_several_keywords() -> None:
    call = _expression("f(1, rule=2, path=3)")
    assert isinstance(call, ast.Call)
    found = keyword_value(call, "path", "rule")
    assert found is not None
    assert ast.unparse(found) == "2"
    assert keyword_value(call, "port") is None
