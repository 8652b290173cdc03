"""Every row of known_texts.toml: its examples match it first, its texts can be filled in, its ids are unique."""

import re
from string import Formatter

from mlship import errors
from mlship.known_texts import TextContext, first_match, phrase, text_table

# Values that the code of a context adds to the groups of the pattern.
VALUES: dict[TextContext, set[str]] = {
    "push": {"registry"},
    "registry": {"registry"},
    "smoke": {"platform", "user", "port", "function", "memory"},
    "start": {"image"},
    "kubernetes": {"image"},
    "registry-api": {"where", "host", "login"},
    "s3": {"where", "reply"},
    "dockerfile": {"file"},
    "lock": {"input", "python", "platform", "ignored", "indexes", "instead", "conflict", "raised", "package"},
}
ROWS, PHRASES = text_table().text, text_table().phrases


def test_examples_match_their_row_first() -> None:
    for row in ROWS:
        assert row.examples
        for context in row.contexts:
            for example in row.examples:
                match = first_match(example, context)
                assert match is not None
                assert match.row.id == row.id


def test_texts_name_groups_and_values_that_exist() -> None:
    for row in ROWS:
        groups = set(re.compile(row.pattern).groupindex)
        for context in row.contexts:
            hint = row.hints.get(context, row.hint)
            named = {name for text in (row.why, hint) for _, name, _, _ in Formatter().parse(text) if name is not None}
            named |= {name for one in named for _, name, _, _ in Formatter().parse(PHRASES.get(one, "")) if name}
            assert named <= groups | VALUES.get(context, set()) | PHRASES.keys()


def test_a_row_with_an_error_has_cause_and_fix() -> None:
    for row in ROWS:
        assert row.why
        if row.error:
            assert row.hint
            assert issubclass(getattr(errors, row.error), errors.MlshipError)
        assert not row.why.endswith(".")
        assert set(row.hints) <= set(row.contexts)


def test_ids_are_unique() -> None:
    ids = [row.id for row in ROWS]
    assert len(ids) == len(set(ids))


def test_a_match_is_filled_in() -> None:
    match = first_match('ERROR: no builder "far" found', "build")
    assert match is not None
    error = match.as_error()
    assert type(error) is errors.UsageError
    assert error.message == "there is no builder named `far`"
    assert error.hint == "run `docker buildx ls` to list the builders"


def test_a_hint_may_differ_in_one_context() -> None:
    text = "connection refused"
    pushed, built = first_match(text, "push"), first_match(text, "build")
    assert pushed is not None
    assert built is not None
    assert pushed.hint(registry="reg.example").startswith("check that reg.example is the registry")
    assert built.hint().startswith(phrase("try_again"))


def test_other_texts_and_other_contexts_match_nothing() -> None:
    assert first_match("something new", "build") is None
    assert first_match('ERROR: no builder "far" found', "lock") is None
    assert first_match("    raise RuntimeError\nRuntimeError: Bad params: depth must be positive", "lock") is None
    assert first_match("apptainer.Dockerfile\nFROM a\nRUNN x", "dockerfile") is None
