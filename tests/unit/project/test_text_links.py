"""Links that a checkout without symbolic links turned into text are found, refused, and never shipped."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.build.prepare import prepare
from mlship.errors import UsageError
from mlship.init.detect import detect
from mlship.project.text_links import refuse_text_links, text_links
from tests.helpers.gits import committed, git
from tests.helpers.repos import onnx_bytes, write

CACHE = "hub/models--org--m"
SNAPSHOT = f"{CACHE}/snapshots/abc"
NAMES = st.lists(st.sampled_from(["model.onnx", "config.json", "vocab.txt", "sub/a.bin"]), unique=True)


def without_links(repo: Path, *paths: str) -> None:
    """What git does with `core.symlinks=false`."""
    committed(repo)
    git(repo, "config", "core.symlinks", "false")
    for path in paths:
        (repo / path).unlink()
    git(repo, "checkout", "--", *paths)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES, real=NAMES)
def test_snapshots_of_the_hub_with_text_links_are_known_without_git(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], real: list[str]
) -> None:
    repo = write(tmp_path_factory.mktemp("repo"), {f"{CACHE}/blobs/9f": onnx_bytes(), f"{CACHE}/refs/main": "abc"})
    for name in names:
        write(repo, {f"{SNAPSHOT}/{name}": os.path.relpath("blobs/9f", Path("snapshots/abc", name).parent)})
    write(repo, {f"{SNAPSHOT}/real/{name}": "blobs/9f" for name in real})  # a path that is not there
    assert text_links(repo) == {f"{SNAPSHOT}/{name}": f"{CACHE}/blobs/9f" for name in sorted(names)}


@pytest.mark.parametrize("path", [CACHE, f"{SNAPSHOT}/model.onnx"])
def test_a_cache_of_the_hub_with_text_links_is_refused(tmp_path: Path, path: str) -> None:
    write(tmp_path, {f"{CACHE}/blobs/9f": onnx_bytes(), f"{SNAPSHOT}/model.onnx": "../../blobs/9f"})
    with pytest.raises(UsageError, match=r"is a symbolic link to .*, but here it is a text file") as caught:
        detect(tmp_path)
    write(tmp_path, {"mlship.yaml": CONFIG.format(weights=path), "m.py": "", "in.json": "{}"})
    with pytest.raises(UsageError, match="but here it is a text file"):
        prepare(tmp_path)
    subprocess.run(caught.value.hint.split("`")[1], shell=True, cwd=tmp_path, check=True)
    assert detect(tmp_path).weights.named == (f"{SNAPSHOT}/model.onnx",)


CONFIG = """
name: a
python: "3.11"
model: {{load: "m:load", weights: ["{weights}"], sample: in.json}}
serve: {{command: [a], live: /, ready: /, predict: /}}
source: [m.py]
"""


@pytest.mark.parametrize(
    ("link", "target"), [("app/utils.py", "../shared/utils.py"), ("best.onnx", "w/model.onnx"), ("lib", "shared")]
)
def test_links_of_git_that_became_text_are_refused_until_they_are_links(tmp_path: Path, link: str, target: str) -> None:
    write(tmp_path, {"shared/utils.py": "A = 1\n", "w/model.onnx": onnx_bytes(), "app/main.py": "import utils\n"})
    (tmp_path / link).symlink_to(target)
    without_links(tmp_path, link)
    with pytest.raises(UsageError) as caught:
        detect(tmp_path)
    assert caught.value.message.startswith(f"`{link}` is a symbolic link to `{target.removeprefix('../')}`")
    subprocess.run(caught.value.hint.split("`")[1], shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / link).is_symlink()
    detect(tmp_path)


def test_text_that_is_no_link_is_never_taken_for_one(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "b.txt", "b.txt": "b", "VERSION": "1.0", "link": "", "again": ""})
    for name, target in (("link", "b.txt"), ("again", "gone.txt")):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(target)
    without_links(tmp_path, "link", "again")
    write(tmp_path, {"again": "now a file"})
    assert text_links(tmp_path) == {"link": "b.txt"}
    detect(tmp_path)  # neither code nor a model


def test_many_links_are_one_command(tmp_path: Path) -> None:
    write(tmp_path, {"target a": ""})
    names = [f"l {number}" for number in range(7)]
    for name in names:
        (tmp_path / name).symlink_to("target a")
    without_links(tmp_path, *names)
    with pytest.raises(UsageError, match="like 6 more") as caught:
        refuse_text_links(text_links(tmp_path), tmp_path)
    assert f"git checkout -- {shlex.join(names[:5])} ...`" in caught.value.hint
