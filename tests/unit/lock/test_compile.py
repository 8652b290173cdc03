"""Conflicts that pip-compile reports: each constraint by its origin, since pip says of all that the user has it."""

from pathlib import Path

import pytest

from mlship import process
from mlship.errors import UsageError
from mlship.lock.compile import CompileRequest, Upgrade, compile_here
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from tests.helpers.lock_configs import config

SAID = """\
  ERROR: Cannot install beta>=2 and gamma because these package versions have conflicting dependencies.

  The conflict is caused by:
      The user requested beta>=2
      gamma 1.5 depends on beta<3
      The user requested (constraint) {}

  To fix this you could try to:
"""


@pytest.mark.parametrize(
    ("constraint", "limits", "upgraded", "expected"),
    [
        ("beta<2.5.1", ("beta<2.5.1",), (), ("limit", "- mlship requires beta<2.5.1", "relax a requirement in `req")),
        (
            "Beta==1.2",
            (),
            ("beta==1.2",),
            ("upgrade", "- --upgrade-package requests beta==1.2", "name another version"),
        ),
        ("beta<2", (), (), ("constraint", "- The user requested (constraint) beta<2", "remove `beta<2` from the")),
        ("beta<2", ("other<2",), ("beta",), ("constraint", "(constraint) beta<2", "remove `beta<2` from the")),
        (
            "beta<2.5,>1",
            ("beta<2.5",),
            (),
            ("constraint", "- The user requested (constraint) beta>1", "remove `beta>1` from"),
        ),
        (
            "beta<2.5,==1",
            ("beta<2.5",),
            ("beta==1",),
            ("upgrade", "- mlship requires beta<2.5", "name another version"),
        ),
        ("beta<2.4", ("beta<2.5",), (), ("constraint", "(constraint) beta<2.4", "remove `beta<2.4` from")),
    ],
)
def test_the_hint_is_about_the_origin_of_the_constraint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    constraint: str,
    limits: tuple[str, ...],
    upgraded: tuple[str, ...],
    expected: tuple[str, str, str],
) -> None:
    cause, shown, hint = expected
    failed = process.Completed((), 2, "", SAID.format(constraint))
    monkeypatch.setattr(process, "run", lambda _argv, _options: failed)
    files, settings = (InputFile("requirements.in", "beta>=2\ngamma\n"),), PipSettings(no_index=True)
    with pytest.raises(UsageError) as caught:
        compile_here(CompileRequest(config(), files, settings, Upgrade(packages=upgraded), "", limits), tmp_path)
    assert caught.value.cause == f"lock-conflict-{cause}"
    assert f"{shown}\n" in f"{caught.value.message}\n"
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    Downloading alpha-1.26.4.tar.gz (15.8 MB)", "pip builds alpha-1.26.4 from source"),
        ("    Using cached beta_one-2.0.zip (19 kB)", "pip builds beta_one-2.0 from source"),
        ("    Downloading https://user:secret@host/files/alpha-1.0.tar.gz (1 kB)", "pip builds alpha-1.0 from source"),
        ("    Downloading alpha-1.26.4-cp311-cp311-manylinux_2_28_x86_64.whl (18 MB)", ""),
    ],
)
def test_a_build_from_source_is_announced_before_it_takes_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    def run(_argv: object, options: process.Options) -> process.Completed:
        assert options.on_stdout
        options.on_stdout(line)
        assert (said in capsys.readouterr().err) if said else not capsys.readouterr().err
        return process.Completed((), 0, "", "")

    monkeypatch.setattr(process, "run", run)
    question = CompileRequest(config(), (), PipSettings(no_index=True), Upgrade(), "alpha==1.0\n")
    assert compile_here(question, tmp_path) == "alpha==1.0\n"
    assert line in question.said[0]
