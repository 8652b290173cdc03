"""`mlship shadow`: figures as text and JSON, and a verdict as exit code."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlship.cli.app import app
from tests.helpers.shadow_records import shadow_line, shadow_lines

ALL = "agreement >= 0.995 and psi < 0.1 and p99_ratio <= 1.2 and hours >= 24"


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["shadow", *arguments], input=given)


@pytest.fixture(name="day")
def records_of_a_day(tmp_path: Path) -> Path:
    file = tmp_path / "shadow.jsonl"
    file.write_bytes(b"".join(shadow_lines(1441)))
    return file


def test_a_good_candidate_is_promoted_with_evidence(day: Path) -> None:
    result = run("promote", str(day), "--if", ALL)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "PROMOTE: the condition holds",
            "  ✓ agreement >= 0.995",
            "      agreement 1: 1441 of 1441 copies agree",
            "  ✓ psi < 0.1",
            "      psi 0: largest of 1 value, of y[0]",
            "  ✓ p99_ratio <= 1.2",
            "      p99_ratio 1.1: 2.2 ms by 2 ms",
            "  ✓ hours >= 24",
            "      hours 24: no gap of more than an hour",
        ],
    )


def test_a_bad_candidate_is_not(day: Path) -> None:
    result = run("promote", str(day), "--if", f"{ALL} and memory_ratio < 1.2")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "DO NOT PROMOTE: the condition does not hold")
    assert "  ✗ memory_ratio < 1.2" in result.stdout


@pytest.mark.parametrize("extra", [b"{\n", shadow_line(1, primary_version="0").encode(), None])
def test_unknown_is_never_a_pass(day: Path, extra: bytes | None) -> None:
    given = b"".join(shadow_lines(100)) if extra is None else day.read_bytes() + extra
    for condition in (ALL, "psi < 0.1", "not psi > 5", "psi <= 1 or psi > 1"):
        result = run("promote", "-", "--if", condition, given=given)
        assert result.exit_code == 1
        assert "DO NOT PROMOTE" in result.stdout
        assert "\n  ? psi" in result.stdout
        plain = json.loads(run("promote", "-", "--json", "--if", condition, given=given).stdout)
        assert (plain["promote"], plain["figures"]["psi"]["value"]) == (False, None)


@pytest.mark.parametrize(("given", "reason"), [(b"", "no records"), (b"\0\1", "line 1 is not a record of a shadow")])
def test_a_report_without_a_figure_is_no_success(given: bytes, reason: str) -> None:
    text = run("report", "-", given=given)
    assert (text.exit_code, len(text.stdout.splitlines())) == (1, 1)
    assert text.stdout.startswith(f"every figure is unknown: {reason}")
    plain = run("report", "-", "--json", given=given)
    assert plain.exit_code == 1
    assert {figure["value"] for figure in json.loads(plain.stdout)["figures"].values()} == {None}


def test_the_report_has_every_figure(day: Path) -> None:
    text = run("report", str(day))
    assert text.exit_code == 0
    assert "agreement              1  share of the copies that agree: 1441 of 1441 copies agree" in text.stdout
    plain = json.loads(run("report", "--json", str(day)).stdout)["figures"]
    assert {line.split()[0] for line in text.stdout.splitlines()} == {*plain}
    assert plain["p99_ratio"] == {"basis": "2.2 ms by 2 ms", "value": pytest.approx(1.1)}


def test_records_come_from_a_pipe(day: Path) -> None:
    """As with `<(zcat shadow.jsonl.gz)` in bash."""
    with subprocess.Popen(["cat", str(day)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        result = run("report", f"/dev/fd/{cat.stdout.fileno()}")
    assert result.exit_code == 0, result.output


def test_a_line_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlship.cli.shadow._LONGEST", 4)
    assert "(and 2 more" in run("report", "-", given=b"0123456789").stdout


@pytest.mark.parametrize("device", ["/dev/zero", "pipe", "."])
def test_what_may_never_end_is_refused(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    result = run("report", device)
    kind = "a folder" if device == "." else "not a regular file"
    assert (result.exit_code, f"`{device}` is {kind}" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "none.jsonl"), "no file `none.jsonl`"),
        (("promote", "-", "--if", "psi"), "`psi` is not a condition"),
        (("promote", "-", "--if", "speed > 1"), "unknown figure `speed`"),
    ],
)
def test_mistakes_end_with_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments, given=b"")
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True)
    assert "hint:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name either a file of records or a Prometheus server"),
        (("-", "--prometheus", "http://a"), "name either a file of records or a Prometheus server"),
        (("--prometheus", "http://a"), "`--prometheus` needs the hours to look back"),
        (("--prometheus", "http://a", "--hours", "nan"), "`--prometheus` needs the hours to look back, at most 8784"),
        (("-", "--hours", "1"), "`--hours` and `--match` are for `--prometheus`"),
        (("--prometheus", "a", "--hours", "1"), "`a` is no address of a Prometheus server"),
    ],
)
def test_a_source_is_one_file_or_one_prometheus(arguments: tuple[str, ...], message: str) -> None:
    for command in (("report",), ("promote", "--if", "rows > 1")):
        result = run(*command, *arguments)
        assert (result.exit_code, f"error: {message}" in result.stderr) == (2, True), result.stderr
