"""Documents as YAML: no aliases, and programs as blocks that people can read."""

from mlship.yaml_text import Yaml, yaml_text


def test_lines_are_a_block_and_words_are_not() -> None:
    shared: list[Yaml] = ["a"]
    assert yaml_text({"x": "b c", "program": "one\ntwo\n", "y": shared, "z": shared}) == (
        "x: b c\nprogram: |\n  one\n  two\ny:\n- a\nz:\n- a\n"
    )
