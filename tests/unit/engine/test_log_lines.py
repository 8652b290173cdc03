"""Lines of a container's log, whatever the chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.engine import sdk


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\n", b"a\n\nb"]), max_size=10))
def test_lines_do_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    *ended, last = b"".join(chunks).split(b"\n")
    expected = [line.decode(errors="replace") for line in (*ended, *([last] if last else []))]
    assert list(sdk._lines(chunks)) == expected


@pytest.mark.slow
def test_a_long_line_is_cut_in_time_that_grows_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "_LINE_LIMIT", 1000)
    chunks = [b"x" * 16_384] * 20_000  # 300 MB without a line break took minutes when each chunk was joined to the rest
    assert list(sdk._lines([*chunks, b"\nend"])) == ["x" * 1000, "end"]
