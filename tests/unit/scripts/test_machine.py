from pathlib import Path

import _machine
import pytest


@pytest.mark.parametrize(
    ("mounted", "task", "found"),
    [
        ("ext4 /dev/vda", "<none>", "ext4 without a journal"),
        ("ext4 /dev/vda", "123", "ext4"),
        ("ext4 /dev/vdb", "<none>", "ext4"),
        ("xfs /dev/vda", "<none>", "xfs"),
        ("", "<none>", "unknown"),
    ],
)
def test_ext4_without_a_journal_is_found(
    mounted: str, task: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vda").mkdir()
    (tmp_path / "vda/journal_task").write_text(f"{task}\n")
    monkeypatch.setattr(_machine, "run", lambda _argv: _machine.Result(0, mounted, ""))
    assert _machine.file_system("/", tmp_path) == found
