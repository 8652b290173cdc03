"""Requirements at `file:` addresses, and the project itself."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import Scaffold, scaffold
from tests.helpers.repos import write

LOADER = "import onnxruntime\ndef load(): return onnxruntime.InferenceSession('m.onnx')\n"
PROJECT = "[project]\nname = 'my-model'\nversion = '1'\ndependencies = [{}]\n"


def planned(repo: Path, files: dict[str, str | bytes]) -> Scaffold:
    return scaffold(detect(write(repo, {"m.py": LOADER, "sample.json": "[1]", **files})))


def required(plan: Scaffold) -> list[str]:
    text = next(file.text for file in plan.files if file.path.endswith("requirements.in"))
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    "address", ["file:///${PROJECT_ROOT}/../shared", "file://${PROJECT_ROOT}/../shared", "{root:uri}/../shared"]
)
def test_a_package_beside_the_project_is_local(tmp_path: Path, address: str) -> None:
    write(tmp_path, {"shared/pyproject.toml": "[project]\nname='shared'", "shared/shared/__init__.py": ""})
    plan = planned(tmp_path / "api", {"pyproject.toml": PROJECT.format(f"'shared @ {address}', 'numpy'")})
    assert required(plan)[:2] == ["numpy", "../shared"]


def test_what_pip_freeze_writes_in_conda_is_known_by_name_only(tmp_path: Path) -> None:
    frozen = "certifi @ file:///croot/certifi_1690232220950/work/certifi\nnumpy==1.26.4\n"
    plan = planned(tmp_path, {"requirements.txt": frozen})
    assert required(plan)[:2] == ["certifi", "numpy==1.26.4"]
    notes = detect(tmp_path).notes
    assert any("the version of `certifi` is unknown" in note for note in notes)


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("my-model", {"environment.yml": "dependencies: [numpy, {pip: [my-model]}]", "my_model/__init__.py": ""}),
        ("clone", {"pyproject.toml": PROJECT.format("'numpy', 'my-model'"), "src/my_model/__init__.py": ""}),
        ("my-model", {"requirements.txt": "numpy\nmy_model>=1\n", "my_model/__init__.py": ""}),
    ],
)
def test_the_project_itself_is_not_required(tmp_path: Path, folder: str, files: dict[str, str | bytes]) -> None:
    repo = tmp_path / folder
    assert required(planned(repo, files))[0] == "numpy"
    assert not any(line.startswith(("my-model", "my_model")) for line in required(planned(repo, {})))
    assert any("`my-model` is this project itself" in note for note in detect(repo).notes)


def test_a_namesake_of_the_folder_without_a_package_is_required(tmp_path: Path) -> None:
    repo = tmp_path / "numpy"
    plan = planned(repo, {"environment.yml": "dependencies: [numpy]"})
    assert required(plan)[0] == "numpy"


def test_a_lock_file_beside_a_project_without_requirements_requires_nothing(tmp_path: Path) -> None:
    lock = "[[package]]\nname = 'black'\nversion = '25.1.0'\n[[package]]\nname = 'seaborn'\nversion = '0.13.2'\n"
    project = "[tool.poetry]\nname = 'x'\n[tool.poetry.group.script.dependencies]\nseaborn = '*'\n"
    plan = planned(tmp_path, {"pyproject.toml": project, "poetry.lock": lock})
    assert not any(line.startswith(("black", "seaborn")) for line in required(plan))
