import pytest

from mlship.units import bytes_of, count_of, duration, few, first_rows, size

MIB = 1 << 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (1e-6, "<0.1 ms"), (0.00031, "0.31 ms"), (0.0123, "12 ms"), (0.9996, "1 s"), (40, "40 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (95 * MIB, "95 MiB"), (2048 * MIB, "2 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("text", "count"), [("8192k", 8 * MIB), ("512m", 512 * MIB), ("2g", 2048 * MIB)])
def test_what_people_write(text: str, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize(
    "text", ["", "2", "2G", "0m", "02g", "-1g", "1.5g", "2g ", "2gb", "g", "1\N{FULLWIDTH DIGIT TWO}g"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 512m or 2g"):
        bytes_of(text)


@pytest.mark.parametrize("text", ["1k", "5m", "16385g", "999999999999g"])
def test_what_no_container_can_have(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid memory limit"):
        bytes_of(text)


def test_lists_and_counts() -> None:
    assert few(["a", "b", "c"]) == "a, b, c"
    assert few("abcde") == "a, b, c and 2 more"
    assert few((), 2) == ""
    assert first_rows("abc", 3) == ["a", "b", "c"]
    assert first_rows("abc", 1, "- and {} more") == ["a", "- and 2 more"]
    assert [count_of(count, "file") for count in (0, 1, 1234)] == ["0 files", "1 file", "1,234 files"]
