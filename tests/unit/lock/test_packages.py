"""Packages in folders are requirements by their wheel, which `mlship lock` builds and hashes."""

from pathlib import Path

import pytest

from mlship.errors import LockError
from mlship.lock import packages
from mlship.lock.hashes import own_wheels
from mlship.lock.inputs import collect_inputs, read_inputs, read_requirement_files
from mlship.lock.packages import build_packages, folder_hash, package_folder, wheel_of
from mlship.lock.pages import IndexFile
from mlship.project.config import Config
from tests.helpers.repos import write

PROJECT = "[project]\nname = 'shared'\nversion = '1.0'\n"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    files: dict[str, str | bytes] = {
        "packages/shared/pyproject.toml": PROJECT, "packages/shared/shared/__init__.py": "x = 1\n",
        "services/api/requirements.in": "-e ../../packages/shared\nnumpy\n", "services/api/lib/setup.py": "",
        "services/api/plain/a.txt": "", "pyproject.toml": PROJECT,
    }  # fmt: skip
    return write(tmp_path, files) / "services" / "api"


def built(repo: Path, name: str = "shared-1.0-py3-none-any.whl") -> Path:
    write(repo, {f"wheels/shared/{name}": b"wheel"})
    return repo / "wheels" / "shared" / name


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("../../packages/shared", "../../packages/shared"), ("-e ../../packages/shared[x]", "../../packages/shared"),
        ("--editable=./lib", "lib"), ("lib @ file:./lib", "lib"), ("./plain", None), ("./nowhere", None), ("./", None),
        ("-e .", None), ("-e ../..", None), ("numpy", None), ("./wheels/x-1.0-py3-none-any.whl", None),
    ],
)  # fmt: skip
def test_folders_with_a_package(repo: Path, line: str, folder: str | None) -> None:
    assert package_folder(repo, line) == folder


def test_a_folder_counts_as_its_wheel(repo: Path, config: Config) -> None:
    built(repo)
    (file,) = read_inputs(repo, config)
    wheels = {"shared-1.0-py3-none-any.whl": Path("/w/shared-1.0-py3-none-any.whl")}
    assert file.resolved(wheels) == "shared @ file:///w/shared-1.0-py3-none-any.whl\nnumpy\n"
    assert set(collect_inputs(repo, config)) >= {
        "file wheels/shared/shared-1.0-py3-none-any.whl", "folder ../../packages/shared",
    }  # fmt: skip


def test_a_package_that_is_not_built_is_no_input(repo: Path, config: Config) -> None:
    with pytest.raises(LockError, match="not built to a wheel yet") as caught:
        read_inputs(repo, config)
    assert caught.value.hint == "run `mlship lock`"
    assert read_requirement_files(repo, config)[0].folders == {"-e ../../packages/shared": "../../packages/shared"}


def test_only_changed_packages_are_built(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(repo: Path, _folder: str) -> Path:
        return built(repo)

    monkeypatch.setattr(packages, "_build", pretend)
    folder = "../../packages/shared"
    assert list(build_packages(repo, [folder], {})) == ["wheels/shared/shared-1.0-py3-none-any.whl"]
    known = {f"folder {folder}": folder_hash(repo / folder)}
    assert list(build_packages(repo, [folder], known)) == []
    write(repo / folder, {"shared/__pycache__/a.pyc": "", ".git/x": "", "build/x": "", "shared.egg-info/x": ""})
    assert list(build_packages(repo, [folder], known)) == []
    write(repo / folder, {"shared/more.py": ""})
    assert list(build_packages(repo, [folder], known)) == [wheel_of(repo, folder)]


def test_a_file_of_an_index_with_the_same_name_has_no_hash_in_the_lock(repo: Path, config: Config) -> None:
    wheel = built(repo)
    stranger = IndexFile(wheel.name, f"https://example.org/{wheel.name}", "b" * 64)
    files = {"shared": (stranger, IndexFile(wheel.name, wheel.as_uri(), None)), "numpy": (stranger,)}
    assert own_wheels(read_inputs(repo, config), files) == {"shared": files["shared"][1:]}


@pytest.fixture
def config() -> Config:
    return Config.model_validate({
        "name": "x", "python": "3.11", "model": {"load": "a:b", "sample": "s.json"}, "source": ["a"],
        "serve": {"command": ["uvicorn"], "ready": "/"},
    })  # fmt: skip
