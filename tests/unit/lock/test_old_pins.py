"""All pins without a wheel for the image's Python are named, with what to change: the version, or the Python."""

import pytest

from mlship.errors import UsageError
from mlship.lock.failures import explain
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.installable import wheel_versions
from mlship.lock.old_pins import find_old_pins
from mlship.lock.pages import IndexFile
from tests.helpers.lock_configs import config
from tests.helpers.pages import served_pages

CONFIG = config('python: "3.11"\n')
WHEELS = {
    "pandas": ("1.4.3-cp310-cp310", "1.5.0-cp311-cp311", "2.0.0-cp311-cp311"),
    "scikit-learn": ("1.1.1-cp310-cp310", "1.2.0rc1-cp311-cp311", "1.2.0-cp311-cp311"),
    "numpy": ("1.19.5-cp39-cp39", "1.23.2-cp311-cp311"),
    "flask": ("1.0-py36+-none", "2.0-py3-none"),
}
FILES = (
    InputFile("serving/requirements.in", "-r ../requirements.txt\ngunicorn\n"),
    InputFile("requirements.txt", "pandas==1.4.3\nscikit_learn==1.1.1\nflask==2.0\nnumpy>=1.19\nmine==1\nnumpy==1.x\n"),
)
FAILED = "Collecting pandas==1.4.3\nerror: metadata-generation-failed\nModuleNotFoundError: No module named 'x'\n"


def page(name: str, wheels: tuple[str, ...]) -> tuple[str, str]:
    platform = "any" if name == "flask" else "manylinux_2_17_x86_64"
    names = [f"{name.replace('-', '_')}-{wheel}-{platform}.whl" for wheel in wheels]
    return "text/html", "".join(f'<a href="{one}">{one}</a>' for one in (*names, f"{name}-1.0.tar.gz"))


def test_every_old_pin_is_named_at_once() -> None:
    with served_pages({f"/simple/{name}/": page(name, wheels) for name, wheels in WHEELS.items()}) as (address, _):
        settings = PipSettings(index_url=f"{address}/simple")
        old = find_old_pins(FILES, CONFIG, settings)
        assert old is not None
        assert old.python is None
        assert [str(pin) for pin in old.pins] == [
            "`pandas==1.5.0` instead of `pandas==1.4.3` (requirements.txt, line 1)",
            "`scikit_learn==1.2.0` instead of `scikit_learn==1.1.1` (requirements.txt, line 2)",
        ]
        error = explain(FAILED, CONFIG, None, settings, FILES)
    assert isinstance(error, UsageError)
    assert error.message.endswith(
        "\n2 requirements have no wheel for Python 3.11 on Linux: pandas==1.4.3, scikit_learn==1.1.1"
    )
    assert error.hint.startswith("require `pandas==1.5.0` instead of `pandas==1.4.3` (requirements.txt, line 1), ")


def test_what_is_for_other_systems_is_named_with_its_marker() -> None:
    names = {
        "winonly": ["winonly-306-cp311-cp311-win_amd64.whl"],
        "both": ["both-1-py3-none-win32.whl", "both-1.tar.gz"],
        "later": ["later-1-py3-none-win32.whl", "later-2-py3-none-any.whl"],
    }
    pages = {
        f"/simple/{name}/": ("text/html", "".join(f'<a href="{one}">{one}</a>' for one in files))
        for name, files in names.items()
    }
    lines = "winonly>=300\nwinonly==306\nboth==1\nwinonly==306; sys_platform == 'win32'\nlater==1\n"
    with served_pages(pages) as (address, _):
        error = explain(
            "ERROR: Could not find a version that satisfies the requirement winonly (from versions: none)\n",
            CONFIG,
            None,
            PipSettings(index_url=f"{address}/simple"),
            (InputFile("requirements.txt", lines),),
        )
    assert error.message.endswith(
        "3 requirements have no wheel for Python 3.11 on Linux: winonly>=300, winonly==306, later==1"
    )
    assert error.hint == (
        "require `later==2` instead of `later==1` (requirements.txt, line 5); also "
        "add the marker `sys_platform != 'linux'` to `winonly>=300` (requirements.txt, line 1), `winonly==306` "
        "(requirements.txt, line 2): no file is for Linux; then run `mlship lock` again"
    )


def test_without_old_pins_the_error_is_the_known_one() -> None:
    with served_pages({}) as (address, _):
        error = explain(FAILED, CONFIG, None, PipSettings(index_url=f"{address}/simple"), FILES)
    assert "no wheel for Python 3.11 on Linux:" not in error.message
    assert "pin a version with wheels" in error.hint


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("3.11", "require `pandas==1.5.0` instead of `pandas==1.4.3` (requirements.txt, line 1), "),
        ("3.14", "require `pandas==2.0.0` instead of `pandas==1.5.0` (requirements.txt, line 1); "),
        ("3.13", 'set `python: "3.11"` in mlship.yaml, for which every pin has a wheel; then run `mlship lock` again'),
    ],
)
def test_a_version_that_pip_does_not_see_has_a_way_out(python: str, words: str) -> None:
    wheels = {**WHEELS, "pandas": ("1.4.3-cp310-cp310", "1.5.0-cp311-cp311", "2.0.0-cp314-cp314")}
    files = FILES if python == "3.11" else (InputFile("requirements.txt", "pandas==1.5.0\n"),)
    missing = "ERROR: Could not find a version that satisfies the requirement pandas==1 (from versions: 2.0.0)\n"
    with served_pages({f"/simple/{name}/": page(name, found) for name, found in wheels.items()}) as (address, _):
        settings = PipSettings(index_url=f"{address}/simple")
        error = explain(missing, config(f'python: "{python}"\n'), None, settings, files)
    assert error.message.startswith("no version matches `pandas==1`")
    assert words in (error.hint or "")
    assert (error.hint or "").endswith("run `mlship lock` again")
    assert ('set `python: "3.11"`' in (error.hint or "")) == (python != "3.11")


@pytest.mark.parametrize(
    ("failed", "hint"),
    [
        ("pandas==1.4.9", "require `pandas==1.5.0` instead of `pandas==1.4.9` (requirements.txt, line 1), `scikit"),
        (
            "pandas==1.5.0+cu118;",
            "require `pandas==1.5.0` instead of `pandas==1.5.0+cu118` (requirements.txt, line 1), ",
        ),
        (
            "nosuch==1.0",
            "correct it in `requirements.in`, or `python` in mlship.yaml, or the index (`pip config list`); also ",
        ),
    ],
)
def test_the_requirement_that_failed_is_never_left_out(failed: str, hint: str) -> None:
    files = (InputFile("requirements.txt", f"{failed}\nscikit-learn==1.1.1\n"),)
    missing = f"ERROR: Could not find a version that satisfies the requirement {failed} (from versions: 2.0.0)\n"
    with served_pages({f"/simple/{name}/": page(name, wheels) for name, wheels in WHEELS.items()}) as (address, _):
        error = explain(missing, CONFIG, None, PipSettings(index_url=f"{address}/simple"), files)
    assert (error.hint or "").startswith(hint)
    assert "`scikit-learn==1.2.0` instead of `scikit-learn==1.1.1`" in (error.hint or "")


@pytest.mark.parametrize(
    ("limit", "fits"),
    [("", True), (">=3.8", True), (">=3.12", False), ("<3.11.4", True), (">=3.6.*", True), ("three", True)],
)
def test_a_malformed_limit_of_python_is_none_as_in_pip(limit: str, fits: bool) -> None:
    file = IndexFile("alpha-1.0-py3-none-any.whl", "https://x/", None, None, limit)
    assert list(wheel_versions([file], CONFIG).values()) == [fits]
