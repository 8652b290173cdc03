"""Every fix of data/smoke.toml is used, and the code gives the values that it names."""

import ast
import tomllib
from pathlib import Path
from string import Formatter

from mlship.resources import read_package_file
from mlship.smoke import result

TEXTS: dict[str, dict[str, str]] = tomllib.loads(read_package_file("data/smoke.toml"))
FIXES = {(check, seen): text for check, texts in TEXTS.items() for seen, text in texts.items() if seen != "title"}
TREES = [ast.parse(path.read_text()) for path in Path(result.__file__).parent.rglob("*.py")]
CALLS = [
    node
    for tree in TREES
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fix"
]


def test_every_fix_is_used() -> None:
    words = {node.value for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {key for key in FIXES if key[1] not in words} == set()


def test_every_call_names_a_fix_and_gives_its_values() -> None:
    assert len(CALLS) > 50
    for call in CALLS:
        check, seen = (argument.value if isinstance(argument, ast.Constant) else None for argument in call.args)
        assert isinstance(check, str)
        fixes = [text for key, text in FIXES.items() if key[0] == check and seen in {None, key[1]}]
        assert fixes, (check, seen)
        given = {keyword.arg for keyword in call.keywords}
        named = {name for text in fixes for _, name, _, _ in Formatter().parse(text) if name}
        if seen is not None:
            assert given >= named - {"rebuild", "relock"}, (check, seen)


def test_texts_are_sentences_without_a_full_stop() -> None:
    for (check, seen), text in FIXES.items():
        assert text.strip() == text, (check, seen)
        assert not text.endswith("."), (check, seen)
