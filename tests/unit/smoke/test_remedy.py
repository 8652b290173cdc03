"""Remedies that name everything at once: libraries, files that the build left out, shared memory."""

from dataclasses import replace

import pytest

from mlship.engine.base import ExitState
from mlship.smoke.events import JitCompiled
from mlship.smoke.judge.model import model_checks
from mlship.smoke.remedy import advise, remedy_for_end
from tests.helpers.smoke_events import GOOD, MODEL, SPEC

GL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory (import)"


@pytest.mark.parametrize(
    ("seconds", "cacheable", "status", "words"),
    [(63.0, 2, "warn", "set NUMBA_CACHE_DIR"), (63.0, 0, "warn", "`cache=True`"), (0.5, 0, "pass", "")],
)
def test_a_long_compilation_at_every_start_is_a_warning(
    seconds: float, cacheable: int, status: str, words: str
) -> None:
    jit = JitCompiled(("librosa.stft", "app.f"), seconds, cacheable)
    run = replace(MODEL, events=(*MODEL.events, jit))
    check = next(one for one in model_checks(replace(GOOD, model=run)) if one.id == "model.jit")
    assert (check.status, words in check.remedy, "2 functions" in check.seen) == (status, True, True)


def advice(text: str, absent: dict[str, str] | None = None) -> str:
    return str(advise(text, GOOD, absent))


def test_all_missing_libraries_are_named_at_once() -> None:
    found = advice(GL, {"libGL.so.1": "cv2.abi3.so", "libgthread-2.0.so.0": "cv2.abi3.so", "libsndfile.so.1": "x.so"})
    assert "add libgl1 and libglib2.0-0 and libsndfile1 under `system.run`" in found


def test_an_unknown_library_of_another_module_is_no_requirement() -> None:
    absent = {"libGL.so.1": "cv2.abi3.so", "libodd.so.1": "cv2.abi3.so", "libplugin.so.2": "optional.so"}
    found = advice(GL, absent)
    assert "add libgl1 and the Debian package that provides libodd.so.1 under" in found
    assert "libplugin" not in found


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (
            "No such file or directory: '/opt/venv/lib/python3.11/site-packages/somepkg/tests/data/default.csv'",
            "somepkg/tests/*",
        ),
        ("ModuleNotFoundError: No module named 'numba.tests'", "numba/tests/*"),
        ("ModuleNotFoundError: No module named 'a.b.tests.support'", "a/b/tests/*"),
    ],
)
def test_a_file_that_the_build_left_out_is_kept_by_name(text: str, pattern: str) -> None:
    assert advice(text).startswith(f'add "{pattern}" under `keep` in mlship.yaml')


@pytest.mark.parametrize("text", ["No module named 'tests'", "No such file or directory: '/app/tests/data.csv'"])
def test_the_repositorys_own_tests_are_not_pruned(text: str) -> None:
    assert "`keep`" not in advice(text)


@pytest.mark.parametrize(("shm", "size", "more"), [(None, "64 MiB", "1g"), (1 << 30, "1 GiB", "2g")])
def test_a_bus_error_names_shared_memory_its_size_and_the_deployment(shm: int | None, size: str, more: str) -> None:
    found = remedy_for_end(ExitState(135, out_of_memory=False), replace(SPEC, shm=shm))
    assert size in found
    assert f"`smoke.shm: {more}`" in found
    assert f"--shm-size={more}" in found
    assert "medium: Memory" in found


LOG = """Traceback (most recent call last):
  File "/app/main.py", line 9, in <module>
    {call}
  File "/opt/venv/lib/python3.11/site-packages/jinja2/environment.py", line 1016, in get_template
    return self.get()
{error}
"""


@pytest.mark.parametrize(
    ("error", "advised"),
    [
        ("jinja2.exceptions.TemplateNotFound: index.html", "fix /app/main.py, line 9, where the last traceback leaves"),
        ("PermissionError: [Errno 13] Permission denied: '/app/app.log'", "user 1001 (/app/main.py, line 9): "),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'x.pkl'",
            "the image (/app/main.py, line 9): ",
        ),
    ],
)
def test_the_users_own_line_is_named_never_a_packages(error: str, advised: str) -> None:
    found = advice(LOG.format(call="x", error=error))
    assert advised in found
    assert "site-packages" not in found


def test_a_traceback_without_own_code_is_not_the_users() -> None:
    assert advise(LOG.replace("/app/main.py", "/usr/lib/python3.11/x.py"), GOOD) is None
