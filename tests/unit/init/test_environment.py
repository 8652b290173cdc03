"""The user's environment is read from its files; nothing of it runs."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.environment import read_user_environment
from tests.helpers.repos import write

PLACE = "lib/python3.11/site-packages"


def environment(root: Path, dists: dict[str, dict[str, str]]) -> Path:
    files: dict[str, str | bytes] = {"pyvenv.cfg": "", f"{PLACE}/sitecustomize.py": "raise SystemExit('ran')"}
    for name, extra in dists.items():
        info = f"{PLACE}/{name}-1.0.dist-info"
        files |= {f"{info}/METADATA": f"Name: {name}\nVersion: 1.0\n"}
        files |= {f"{info}/{path}": text for path, text in extra.items()}
    return write(root, files)


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_modules_of_the_active_environment(tmp_path: Path, variable: str) -> None:
    place = environment(
        tmp_path / "e",
        {
            "Hummingbird_ML": {"RECORD": "hummingbird/ml/__init__.py,,\nsingle.py,,\nx-1.0.dist-info/METADATA,,\n"},
            "old": {"top_level.txt": "olden\ntests\n"},
        },
    )
    found = read_user_environment(tmp_path, {variable: str(place)})
    assert found.requirement_for("hummingbird.ml") == "hummingbird-ml"
    assert found.requirement_for("single") == "hummingbird-ml"
    assert found.requirement_for("olden") == "old"
    assert found.requirement_for("tests") is None
    assert found.requirement_for("absent") is None


def test_packages_that_did_not_come_from_an_index_are_left_out(tmp_path: Path) -> None:
    origin = '{"url": "file:///home/me/mine", "dir_info": {"editable": true}}'
    dists = {"mine": {"top_level.txt": "mine\n", "direct_url.json": origin}, "bad": {"direct_url.json": "{"}}
    place = environment(tmp_path / "e", dists)
    assert read_user_environment(tmp_path, {"VIRTUAL_ENV": str(place)}).requirement_for("mine") is None


def test_a_module_that_several_distributions_share_is_not_known(tmp_path: Path) -> None:
    place = environment(tmp_path / "e", {"a": {"top_level.txt": "google\n"}, "b": {"top_level.txt": "google\n"}})
    assert read_user_environment(tmp_path, {"VIRTUAL_ENV": str(place)}).requirement_for("google") is None


def test_the_environment_in_the_repository_names_packages(tmp_path: Path) -> None:
    environment(tmp_path / ".venv", {"faiss-gpu-cu12": {"top_level.txt": "faiss\n"}})
    found = detect(write(tmp_path, {"m.py": "import faiss\ndef load(): ..."}))
    assert [need.line for need in found.imports.known] == ["faiss-gpu-cu12"]


def test_no_environment(tmp_path: Path) -> None:
    assert read_user_environment(tmp_path, {"VIRTUAL_ENV": str(tmp_path / "gone")}).place is None
