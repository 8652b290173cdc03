import json
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import LockError, UsageError
from mlship.files import sha256_file, sha256_text
from mlship.lock.check import check_lock
from mlship.lock.indexes import PipSettings, with_declared
from mlship.lock.inputs import collect_inputs, read_inputs
from mlship.lock.record import LockRecord, read_record
from tests.helpers.lock_configs import config
from tests.helpers.wheels import write_wheel

FIELDS = sorted(field.name for field in fields(LockRecord))
TEXT = f"numpy==2.0 --hash=sha256:{'a' * 64}\n"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "requirements.in").write_text("numpy\n-r more/gpu.in\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/gpu.in").write_text("-c ../limits.txt\n")
    (tmp_path / "limits.txt").write_text("numpy<3\n")
    (tmp_path / "requirements.txt").write_text(TEXT)
    write_record(tmp_path)
    return tmp_path


def write_record(repo: Path) -> None:
    inputs = collect_inputs(repo, config())
    LockRecord(inputs, sha256_text(TEXT), "python:3.11-slim-bookworm", "sha256:" + "0" * 64, "pip-tools 7").write(repo)


def refusal(repo: Path, extra: str = "") -> str:
    with pytest.raises(LockError) as caught:
        check_lock(repo, config(extra))
    return caught.value.message


def test_inputs_are_every_file_that_is_read(repo: Path) -> None:
    assert list(collect_inputs(repo, config())) == [
        "python",
        "platform",
        "base",
        "file limits.txt",
        "file more/gpu.in",
        "file requirements.in",
    ]


def test_a_fresh_lock_is_a_value(repo: Path) -> None:
    lock = check_lock(repo, config())
    assert [pin.name for pin in lock.pins] == ["numpy"]
    assert lock.text == TEXT


def test_everything_that_changed_is_said_at_once(repo: Path) -> None:
    (repo / "limits.txt").write_text("numpy<4\n")
    (repo / "requirements.in").write_text("numpy\n-c limits.txt\n-r new.in\n")
    (repo / "new.in").write_text("")
    (repo / "requirements.txt").write_text(TEXT + "# by hand\n")
    message = refusal(repo, 'python: "3.13"\nplatform: linux/arm64\nbase: {distro: trixie}\n')
    assert message.splitlines() == [
        "the lock is stale:",
        "- python 3.11 -> 3.13",
        "- platform linux/amd64 -> linux/arm64",
        "- base python:3.11-slim-bookworm -> python:3.13-slim-trixie",
        "- `limits.txt` has changed",
        "- `new.in` is new",
        "- `requirements.in` has changed",
        "- `more/gpu.in` is no longer read",
        "- `requirements.txt` was edited by hand after `mlship lock` wrote it",
    ]


def test_a_missing_lock(repo: Path) -> None:
    (repo / "requirements.txt").unlink()
    assert "`requirements.txt` is missing" in refusal(repo)


def test_a_lock_made_by_hand(repo: Path) -> None:
    (repo / "mlship.lock").unlink()
    (repo / "requirements.txt").write_text("numpy==2.0\n")
    assert "`requirements.txt` was not written by `mlship lock` and has no hashes" in refusal(repo)


def test_never_locked(repo: Path) -> None:
    (repo / "mlship.lock").unlink()
    (repo / "requirements.txt").unlink()
    assert "have not been locked" in refusal(repo)


def test_a_record_of_a_newer_mlship(repo: Path) -> None:
    record = repo / "mlship.lock"
    record.write_text(record.read_text().replace('"schema": 2', '"schema": 3'))
    assert "written by a newer mlship" in refusal(repo)


def test_a_lock_that_is_no_text(repo: Path) -> None:
    (repo / "requirements.txt").write_bytes(b"\xff")
    assert "`requirements.txt` cannot be read as UTF-8 text" in refusal(repo)


def test_a_record_whose_digest_is_of_another_base(repo: Path) -> None:
    record = (repo / "mlship.lock").read_text()
    edited = record.replace(
        '"base": "python:3.11-slim-bookworm",\n  "digest"', '"base": "python:3.13-slim-trixie",\n  "digest"'
    )
    assert edited != record
    (repo / "mlship.lock").write_text(edited)
    assert "its digest belongs to python:3.13-slim-trixie" in refusal(repo)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), v),
    max_leaves=10,
)


@given(
    _json.map(json.dumps).map(str.encode)
    | st.binary()
    | st.dictionaries(st.sampled_from(FIELDS), _json).map(json.dumps).map(str.encode)
)
def test_no_record_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    repo = tmp_path_factory.getbasetemp()
    (repo / "mlship.lock").write_bytes(content)
    with suppress(LockError):
        read_record(repo)


@pytest.mark.parametrize("bad", [b"", b"{}", b"\xff", b'{"inputs": 1}'])
def test_a_broken_record(repo: Path, bad: bytes) -> None:
    (repo / "mlship.lock").write_bytes(bad)
    assert "`mlship.lock` is not a valid lock record" in refusal(repo)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-r gone.in", "no `gone.in` (named by requirements.in, line 2)"),
        ("-rgone.in", "no `gone.in`"),
        ("--constraint=gone.in", "no `gone.in`"),
        ("-r binary.in", "cannot read `binary.in`"),
        ("-r pyproject.toml", "is not a requirements file"),
        ("-r ../outside.in", "is outside the repository"),
        ("-r ..", "is outside the repository"),
        ("-r ..gone.in", "no `..gone.in`"),
        ("-r link.in", "is outside the repository"),
        ("-r circle.in", "is outside the repository"),
        ("-c /etc/passwd", "only files in the repository"),
        ("-r https://host/r.in", "only files in the repository"),
        ("-e .", "a package from a local folder"),
        ("./wheels/x-1-py3-none-any.whl", "there is no `wheels/x-1-py3-none-any.whl`"),
        ("./x.whl", "Invalid wheel filename"),
        ("../x-1-py3-none-any.whl", "is outside the repository"),
        ("/x-1-py3-none-any.whl", "is outside the repository"),
        ("x @ file:///x-1-py3-none-any.whl", "a package from a local folder"),
        ("./package", "a package from a local folder"),
        ("x @ git+https://host/team/x@v1", "source code at an address"),
        ("git+ssh://git@host/x.git#egg=x", "source code at an address"),
        ("-e git+https://host/x", "source code at an address"),
        ("hg+https://host/x", "source code at an address"),
        ("https://host/x/archive/main.zip", "source code at an address"),
        ("x @ https://host/x-1.tar.gz", "source code at an address"),
        ("--index-url https://u:hunter2@host/simple", "contains a password"),
        ("--index-url https://${NAME}:${TOKEN}@host/simple", "names a variable, which the build lacks"),
    ],
)
def test_refuses_inputs_that_cannot_be_locked(repo: Path, line: str, said: str) -> None:
    (repo / "link.in").symlink_to("/etc/passwd")
    (repo / "binary.in").write_bytes(b"\xff")
    (repo / "circle.in").symlink_to("circle.in")
    (repo / "x.whl").touch()
    (repo / "requirements.in").write_text(f"numpy\n{line}\n")
    with pytest.raises(UsageError) as caught:
        collect_inputs(repo, config())
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("x @ file:///E:/wheels/x-1.2-py3-none-any.whl", "`x==1.2`"),
        ("torch @ file:///w/torch-2.8.0%2Bcu128-cp311-cp311-linux_x86_64.whl#sha256=0", "`torch==2.8.0+cu128`"),
        (
            "numpy @ file:///croot/numpy_1/work/dist/numpy-1.26.4-cp311-cp311-linux_x86_64.whl#sha256=0",
            "`numpy==1.26.4`",
        ),
        ("numpy @ file:///croot/numpy_and_numpy_base_1682520569166/work", "`numpy==VERSION`"),
    ],
)
def test_a_path_that_pip_freeze_writes_becomes_a_version(repo: Path, line: str, instead: str) -> None:
    (repo / "requirements.in").write_text(f"{line}\n")
    with pytest.raises(UsageError) as caught:
        collect_inputs(repo, config())
    assert f"replace the line by {instead}; `pip list --format=freeze`" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "line",
    [
        "./wheels/{}",
        "wheels/{}",
        "alpha @ file:wheels/{}",
        "./wheels/{} ; python_version >= '3'",
        "./wheels/{} \\\n  --hash=sha384:0",
    ],
)
def test_a_wheel_of_the_repository_is_an_input(repo: Path, line: str) -> None:
    wheel = write_wheel(repo / "wheels", "alpha", "1.5")
    (repo / "requirements.in").write_text(f"numpy  # x\n{line.format(wheel.name)}  # ours\n")
    inputs = collect_inputs(repo, config())
    assert inputs[f"file wheels/{wheel.name}"] == sha256_file(wheel)
    (file,) = read_inputs(repo, config())
    marker = " ; python_version >= '3'" if ";" in line else ""
    assert file.resolved({wheel.name: wheel}) == f"numpy\nalpha @ {wheel.as_uri()}{marker}\n"
    settings = with_declared(PipSettings(), repo, (file,))
    assert settings.find_links == (str(repo / "wheels"),)
    write_wheel(repo / "wheels", "alpha", "1.5", requires=("beta",))
    assert collect_inputs(repo, config()) != inputs


def test_the_hash_of_a_wheel_of_the_repository_is_checked(repo: Path) -> None:
    wheel = write_wheel(repo / "wheels", "alpha", "1.5")
    line = f"./wheels/{wheel.name} --hash=sha256:{'0' * 64}"
    (repo / "requirements.in").write_text(f"{line} --hash={sha256_file(wheel)}\n")
    assert read_inputs(repo, config())[0].wheels
    (repo / "requirements.in").write_text(f"numpy\n{line}\n")
    with pytest.raises(UsageError, match=r"line 2: .* does not have the hash in this line"):
        read_inputs(repo, config())


def test_files_that_include_each_other_are_read_once(repo: Path) -> None:
    (repo / "limits.txt").write_text("-r requirements.in\n")
    assert len(collect_inputs(repo, config())) == 6


@pytest.mark.parametrize(
    ("before", "now", "more", "said"),
    [
        (
            "12.6: torch",
            "13.0: torch",
            "",
            "- the hosts or mlship's CUDA tables changed: CUDA 12.6: torch -> 13.0",
        ),
        ("12.6: torch", "13.0: torch", "scipy\n", "- the chosen CUDA changed: CUDA 12.6: torch -> 13.0: torch"),
        (None, "13.0: torch", "", "- mlship.yaml now has a `gpu` section, but the lock was made for the CPU"),
    ],
)
def test_why_the_lock_is_of_another_cuda(repo: Path, before: str | None, now: str, more: str, said: str) -> None:
    inputs = collect_inputs(repo, config(), before)
    LockRecord(inputs, sha256_text(TEXT), "python:3.11-slim-bookworm", "sha256:" + "0" * 64, "pip-tools 7").write(repo)
    (repo / "requirements.in").write_text(f"numpy\n-r more/gpu.in\n{more}")
    with pytest.raises(LockError) as caught:
        check_lock(repo, config("gpu: {}\n"), now)
    assert said in caught.value.message


def test_a_project_that_asks_for_no_gpu_any_more(repo: Path) -> None:
    inputs = collect_inputs(repo, config(), "12.6: torch")
    LockRecord(inputs, sha256_text(TEXT), "python:3.11-slim-bookworm", "sha256:" + "0" * 64, "pip-tools 7").write(repo)
    assert "- mlship.yaml no longer has a `gpu` section, but the lock was made for CUDA 12.6: torch" in refusal(repo)
