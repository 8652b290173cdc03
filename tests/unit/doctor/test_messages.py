"""What lines that programs print stand for: each row finds its example, and the innermost error of a line counts."""

import tomllib

import pytest

from mlship.doctor.chain.link import link_of
from mlship.doctor.chain.messages import is_error, message_of
from mlship.doctor.finding import LAYERS
from mlship.resources import read_package_file

KEYS = {"pattern", "symptom", "say", "source", "example"}
FILES = [f"data/messages/{layer.replace(' ', '-')}.toml" for layer in LAYERS]
ROWS = [row for name in FILES for row in tomllib.loads(read_package_file(name))["messages"]]


@pytest.mark.parametrize("row", [pytest.param(row, id=row["pattern"]) for row in ROWS])
def test_a_row_finds_its_example_and_has_a_source(row: dict[str, str]) -> None:
    assert row.keys() <= KEYS
    assert row["source"]
    link_of(row["symptom"], "container")
    found = message_of(row["example"])
    assert found is not None
    assert found.say == row.get("say", "")


def test_the_innermost_error_of_a_line_counts() -> None:
    line = "OCI runtime create failed: nvidia-container-cli: nvml error: driver/library version mismatch: unknown"
    found = message_of(line)
    assert found is not None
    assert found.symptom == "nvml.init=18"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('time="2026" level=error msg="quux failed"', True),
        ('time="2026" level=info msg="skip loading quux" error="quux is not supported"', False),
        ('{"level":"debug","msg":"quux not found"}', False),
        ("I1129 07:00:00.000000       1 main.go:1] quux failed", False),
        ("E1129 07:00:00.000000       1 main.go:1] quux failed", True),
        ("INFO: quux failed", True),
    ],
)
def test_what_a_log_calls_information_is_no_error(line: str, error: bool) -> None:
    assert is_error(line) is error
