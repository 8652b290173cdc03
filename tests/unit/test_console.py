"""Text from outside cannot move the cursor, reorder a line, show a password or break the output."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship import console
from mlship.errors import UsageError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a[2Jb"),
        ("50%\r100%", "50%\n100%"),
        ("pay\u202esdne.exe", "pay\\u202esdne.exe"),
        ("name\udcff.py", "name\ufffd.py"),
        ("from https://user:canary@host/simple", "from https://***@host/simple"),
        ("Grüße, 模型\tok\n", "Grüße, 模型\tok\n"),
    ],
)
def test_text_is_shown_as_it_may_be(text: str, shown: str) -> None:
    assert console.clean(text) == shown


@given(st.text(st.characters(codec=None), max_size=50))
def test_any_text_can_be_written_and_stays_clean(text: str) -> None:
    shown = console.clean(text)
    shown.encode()
    assert console.clean(shown) == shown


def test_every_way_out_hides_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    text = "https://user:canary@host"
    console.say(text)
    console.say(text, style="bold")
    console.out(text)
    console.out(text, style="bold")
    console.warn(text)
    console.problem(UsageError(text, hint=text))
    written = capsys.readouterr()
    assert "canary" not in written.out + written.err
    assert (written.out + written.err).count("https://***@host") == 7


def test_data_with_lone_surrogates_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
    console.emit("a\udcffb")
    assert raw.getvalue() == "a\ufffdb\n".encode()
