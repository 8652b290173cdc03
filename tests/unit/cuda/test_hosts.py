"""Host files: reading, refusals with reasons, and no accidental overwriting."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.cuda.hosts.files import check_file_name, outdated, plan_import, save_host
from mlship.cuda.hosts.profile import HostGpu, HostProfile, parse_host, read_fleet
from mlship.errors import UsageError

HOST = HostProfile(
    name="a100",
    driver="550.54.15",
    gpus=(HostGpu("NVIDIA A100-SXM4-80GB", "8.0", 8, 80 << 30, mig=False),),
    cuda="12.4",
    toolkit="1.17.8",
    engine="Docker Engine 26.1.5",
    source="nvml",
    notes=("a note",),
)
SMALLEST = '{"name": "a", "driver": "550.54.15", "gpus": [{"name": "T4", "capability": "7.5"}]}'


def but(**fields: object) -> str:
    return json.dumps({**json.loads(SMALLEST), **fields})


def test_what_is_written_is_what_is_read() -> None:
    assert parse_host(HOST.to_json(), "a.json") == HOST
    assert parse_host(HOST.to_json(), "a.json").to_json() == HOST.to_json()


def test_a_file_written_by_hand_needs_little() -> None:
    host = parse_host(SMALLEST, "a.json")
    assert (host.platform, host.source, host.simulated, host.gpus[0].count) == ("linux/amd64", "hand", False, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "is not a host file"),
        ('{"name": "a", "gpus": []}', "driver"),
        (but(driver=550), "driver"),
        (but(gpus=[{"name": "T4"}]), "gpus.0.capability"),
        (but(gpus=[{"name": "T4", "capability": 7.5}]), "gpus.0.capability"),
        (but(source="guess"), "source"),
        (but(gpus=[]), "describes a host without a GPU"),
        (but(schema=2), "is not a host file: unsupported schema 2 (expected 1)"),
        ("[" * 100_000, "recursion limit"),
    ],
)
def test_what_is_no_host_file_says_why(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_host(text, "hosts/a.json")
    assert words in caught.value.message
    assert "hosts/a.json" in caught.value.message


def test_a_fleet_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(replace(HOST, name=name).to_json())
    (tmp_path / "README.md").write_text("not a host")
    fleet = read_fleet(tmp_path, "hosts/")
    assert ([host.name for host in fleet.hosts], fleet.origin, fleet.committed) == (["a", "b"], "hosts/", True)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a host")
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "README.md"):
        with pytest.raises(
            UsageError, match=r"^(no host files in `hosts/`|cannot read `hosts/`|`README.md` is a file)"
        ) as caught:
            read_fleet(folder, "hosts/")
        assert "mlship hosts record" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"caf\xe9", "as UTF-8 text"),
        (b" " * 1_000_001, "larger than 1 MB"),
        (b"{}", "is not a host file"),
    ],
)
def test_a_bad_file_of_a_fleet_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.json").write_text(HOST.to_json())
    (tmp_path / "b.json").write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        read_fleet(tmp_path, "hosts/")
    assert "`hosts/b.json`" in caught.value.message


@pytest.mark.parametrize(
    ("name", "hint"), [("hosts/a100", "hosts/a100.json"), ("a.yaml", "a.yaml.json"), ("", "NAME.json")]
)
def test_a_name_that_would_not_be_read_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_file_name(tmp_path / name)
    assert f"mlship hosts record {tmp_path / hint}" in caught.value.hint


def test_a_recorded_host_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "hosts" / "a.json"
    assert save_host(path, "one\n") == "new"
    assert save_host(path, "one\n") == "same"
    with pytest.raises(UsageError, match="never overwritten") as caught:
        save_host(path, "two\n")
    assert f"`rm {path}`" in caught.value.hint
    assert path.read_text() == "one\n"
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_an_import_changes_what_an_import_wrote_and_nothing_else(tmp_path: Path) -> None:
    imported, recorded = replace(HOST, name="pool", source="labels"), replace(HOST, name="mine")
    for host in (imported, recorded):
        save_host(tmp_path / f"{host.name}.json", host.to_json())
    newer = replace(imported, driver="570.26")
    assert [each.state for each in plan_import([imported], tmp_path)] == ["same"]
    assert [each.state for each in plan_import([newer, replace(newer, name="more")], tmp_path)] == ["changed", "new"]
    with pytest.raises(UsageError, match="was not created by an import"):
        plan_import([replace(newer, name="mine")], tmp_path)


def test_files_of_earlier_imports_are_known(tmp_path: Path) -> None:
    pool = replace(HOST, name="pool", source="labels")
    for host in (pool, replace(pool, name="old"), replace(HOST, name="recorded")):
        save_host(tmp_path / f"{host.name}.json", host.to_json())
    (tmp_path / "broken.json").write_text("{")
    assert outdated(tmp_path, plan_import([pool], tmp_path)) == (tmp_path / "old.json",)
