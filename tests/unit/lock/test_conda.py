"""conda's environment files and conda-lock's locks: conda's packages are apart, pip's are pins."""

from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.lock.conda import read_conda_document
from mlship.lock.foreign import ForeignLock, read_foreign_lock

ENVIRONMENT = """name: ours
channels: [pytorch, nvidia]
dependencies:
  - python=3.10
  - pytorch::pytorch=2.5.1=py3.11_cuda12.4_0
  - nvidia/label/cuda-11.8.0::cuda-toolkit=11.8.*
  - numpy>=1.2,<2
  - pip
  - pip:
    - --extra-index-url https://download.pytorch.org/whl/cu121
    - torchaudio==2.5.1
    - .[ours]
"""
ROW = "- name: {}\n  version: '{}'\n  manager: {}\n  platform: {}\n"
LOCK = "version: 1\nmetadata:\n  platforms: [linux-64]\npackage:\n" + "".join(
    [
        ROW.format("python", "3.11.5", "conda", "linux-64"),
        ROW.format("pytorch", "2.0.1", "conda", "linux-64"),
        ROW.format("pytorch", "2.0.0", "conda", "osx-arm64"),
        ROW.format("flash-attn", "2.3.6", "pip", "linux-64"),
        ROW.format("flash-attn", "2.3.5", "pip", "linux-aarch64"),
    ]
)


def read(folder: Path, text: str, platform: str = "linux/amd64") -> ForeignLock:
    (folder / "file.yml").write_text(text)
    return read_foreign_lock(folder / "file.yml", platform)


def pinned(lock: ForeignLock) -> dict[str, str]:
    return {pin.name: pin.version for pin in lock.pins}


def test_an_environment_file_has_packages_of_conda_and_of_pip(tmp_path: Path) -> None:
    lock = read(tmp_path, ENVIRONMENT)
    assert lock.foreign == ("cuda-toolkit 11.8.*", "numpy", "pytorch 2.5.1")
    assert (pinned(lock), lock.loose, lock.whole) == ({"torchaudio": "2.5.1"}, (".[ours]",), False)
    assert lock.places == ("https://download.pytorch.org/whl/cu121",)


def test_conda_lock_lists_every_package_of_the_platform(tmp_path: Path) -> None:
    lock = read(tmp_path, LOCK)
    assert (lock.foreign, pinned(lock), lock.whole) == (("pytorch 2.0.1",), {"flash-attn": "2.3.6"}, True)
    assert pinned(read(tmp_path, LOCK, "linux/arm64")) == {"flash-attn": "2.3.5"}


def test_python_alone_is_no_package_to_judge(tmp_path: Path) -> None:
    lock = read(tmp_path, "dependencies:\n- python=3.11\n- pip\n- pip:\n  - torch==2.8.0\n")
    assert (lock.foreign, pinned(lock)) == ((), {"torch": "2.8.0"})


@pytest.mark.parametrize(
    "text",
    [
        "dependencies: [python=3.11, pytorch=2.5.1, {pip: [torchaudio==2.5.1]}]\n",
        "name: x\ndependencies: [ # ours\n  python=3.11,\n  pytorch=2.5.1, pip: [torchaudio==2.5.1]]\n",
        "{name: x, dependencies: [pytorch=2.5.1, {pip: [torchaudio==2.5.1]}]}\n",
        '{\n "name": "x",\n "dependencies": [\n  "pytorch=2.5.1=py3.11", {"pip": ["torchaudio==2.5.1"]}]}\n',
        "'dependencies' : !!seq\n- pytorch 2.5.1\n- pip: [torchaudio==2.5.1]\n",
    ],
)
def test_any_style_of_yaml_is_read(tmp_path: Path, text: str) -> None:
    lock = read(tmp_path, text)
    assert (lock.foreign, pinned(lock)) == (("pytorch 2.5.1",), {"torchaudio": "2.5.1"})


@pytest.mark.parametrize(
    "text",
    [
        '[[package]]\nname = "torch"\nversion = "2.8.0"\ndescription = "a, package: {b, dependencies: c"\n',
        "# a, package: b\n  # dependencies: c\ntorch==2.8.0\n",
    ],
)
def test_a_sentence_about_dependencies_is_no_yaml(tmp_path: Path, text: str) -> None:
    assert pinned(read(tmp_path, text)) == {"torch": "2.8.0"}


def test_an_item_that_is_no_package_is_not_forgotten(tmp_path: Path) -> None:
    assert read(tmp_path, "dependencies: [3, '@x y', null]\n").foreign == ("3", "@x y", "none")


def test_a_lock_for_other_platforms_names_them(tmp_path: Path) -> None:
    lock = "package:\n" + ROW.format("pytorch", "2.0.0", "conda", "osx-arm64")
    with pytest.raises(
        UsageError, match=r"no package for linux/amd64 \(linux-64\): it is locked for osx-arm64"
    ) as caught:
        read(tmp_path, lock)
    assert "lock it for linux-64: `conda-lock lock --platform linux-64`" in caught.value.hint
    with pytest.raises(UsageError, match="locked for linux-aarch64, osx-arm64") as caught:
        read(tmp_path, lock + ROW.format("numpy", "2.0.0", "conda", "linux-aarch64"))
    assert caught.value.hint.endswith("or judge it for `--platform linux/arm64`")
    with pytest.raises(UsageError, match="no package in"):
        read(tmp_path, "package:\n" + ROW.format("python", "3.11", "conda", "linux-64"))
    with pytest.raises(UsageError, match="no package in"):
        read(tmp_path, "dependencies:\n")


@pytest.mark.parametrize("rest", ["- a\n b: c", "- " * 200_000 + "a", "[" * 200_000, "- !!python/object:os.system x"])
def test_what_is_no_plain_yaml_is_refused(tmp_path: Path, rest: str) -> None:
    with pytest.raises(UsageError, match=r"not valid YAML|nested too deeply"):
        read(tmp_path, f"dependencies:\n{rest}\n")


@pytest.mark.parametrize(
    "text", ["torch==2.8.0\n", "dependencies: 3\n", "- dependencies:\n  - a\n", "", '{"dependencies": {}}']
)
def test_other_texts_are_left_to_other_readers(text: str) -> None:
    assert read_conda_document(text, "linux/amd64") is None


def test_a_package_that_conda_installed_is_apart(tmp_path: Path) -> None:
    for name, installer in (("torch", "conda"), ("numpy", "pip")):
        info = tmp_path / f"lib/python3.11/site-packages/{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "INSTALLER").write_text(f"{installer}\n")
    lock = read_foreign_lock(tmp_path, "linux/amd64")
    assert (pinned(lock), lock.foreign) == ({"numpy": "1.0"}, ("torch 1.0",))


def test_a_lock_of_pixi_has_the_packages_of_its_environments(tmp_path: Path) -> None:
    wheels = ["- pypi: https://x/torch-2.8.0%2Bcu128-cp312-cp312-linux_x86_64.whl", "- pypi: ."]
    files = ["- conda: https://x/linux-64/python-3.12.0-h1_0.conda", "- conda: https://x/noarch/ca-certs-1.2-h_3.conda"]
    lock = f"""\
version: 6
environments:
  default:
    packages:
      linux-64:
      {wheels[0]}
      {files[0]}
      osx-arm64:
      - conda: https://x/osx-arm64/mlx-1.0-h_0.conda
  test:
    packages:
      linux-64:
      {wheels[1]}
      {files[1]}
      - conda: ./here
packages: []
"""
    found = read(tmp_path, lock)
    assert (pinned(found), found.loose, found.whole) == ({"torch": "2.8.0+cu128"}, (".",), True)
    assert found.foreign == ("ca-certs 1.2", "here")
    with pytest.raises(UsageError, match="locked for linux-64, osx-arm64"):
        read(tmp_path, lock, "linux/arm64")
