"""Imports become requirements only if their package is known and nothing in the repository could answer them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlship.imports import known_modules
from mlship.init.declared.result import distribution
from mlship.init.detect import detect
from mlship.init.generated import SERVER_NEEDS
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

SERVED = "\ndef load(): ..."
PACKAGES = ["numpy", "torch", "sklearn", "attr", "datasets", "PIL", "cv2"]
STRANGERS = ["utils", "config", "common", "my_lib"]

# Everything by which a repository could answer `import {name}`.
ANSWERS = [
    "{name}.py",
    "{name}/__init__.py",
    "{name}/deep/inside.py",
    "{name}/.gitkeep",
    "{name}/{name}.cpython-311-x86_64-linux-gnu.so",
    "lib/{name}.py",
    "src/{name}/__init__.py",
    "a/b/c/d/e/f/g/h/i/j/{name}.py",
    "build/{name}.py",
    ".hidden/{name}.py",
    "stubs/{name}-stubs/__init__.pyi",
    "{name}.pyi",
    "ext/{name}.so",
    "ext/{name}.pyx",
    "nb/{name}.ipynb",
    "wheels/{name}-1.0-py3-none-any.whl",
    "naïve folder/{name}.py",
    "third (party)/{name}/setup.py",
]


def requirements(repo: Path) -> str:
    files = {file.path: file.text for file in scaffold(detect(repo)).files}
    return files["requirements.in"]


def asked(text: str) -> set[str]:
    """The distributions that a requirements file asks from the index."""
    return {name for line in text.splitlines() if (name := distribution(line))}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[dict[str, str | bytes], set[str]]:
    """A served module with imports, and files that answer some of them in any spelling."""
    imported = draw(st.lists(st.sampled_from(PACKAGES + STRANGERS), min_size=1, unique=True))
    place = draw(st.sampled_from(["", "app/", "src/app/", "a/b/"]))
    forms = [draw(st.sampled_from(["import {0}", "from {0} import x", "import {0}.y as z"])) for _ in imported]
    files: dict[str, str | bytes] = {
        f"{place}main.py": "".join(f"{form.format(name)}\n" for form, name in zip(forms, imported, strict=True))
        + SERVED
    }
    answered = draw(st.sets(st.sampled_from(imported)))
    for name in sorted(answered):
        spelled = draw(st.sampled_from([name, name.upper(), name.capitalize(), name.replace("_", "-")]))
        files[draw(st.sampled_from(ANSWERS)).format(name=spelled)] = ""
    return files, answered


@given(layouts())
@example(({"app/main.py": f"from utils import x{SERVED}", "app/utils.py": "x = 1"}, {"utils"}))
def test_the_index_is_never_asked_for_a_name_that_the_repository_answers(
    layout: tuple[dict[str, str | bytes], set[str]],
) -> None:
    files, answered = layout
    with tempfile.TemporaryDirectory() as folder:
        names = asked(requirements(write(Path(folder), files)))
    for module in answered:
        assert distribution(known_modules().get(module, module)) not in names
    assert not names & {"utils", "config", "common", "my-lib"}


@pytest.mark.parametrize(
    "files",
    [
        {".gitmodules": '[submodule "x"]\n\tpath = third_party/torch\n'},
        {"pyproject.toml": "[project]\nname = 'Torch'\n"},
        {"setup.py": "from setuptools import setup\nsetup(name='torch')\n"},
        {"torch/readme.txt": "", "torch/nn/readme.txt": ""},
    ],
)
def test_other_ways_to_answer_a_name(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    text = requirements(write(tmp_path, {"m.py": f"from torch import nn{SERVED}", **files}))
    assert "torch" not in asked(text)
    assert "# `import torch` in m.py: " in text or "pyproject.toml" in files


def test_generated_protobuf_modules_are_the_repositorys(tmp_path: Path) -> None:
    text = requirements(write(tmp_path, {"m.py": f"import torch_pb2{SERVED}", "torch.proto": ""}))
    assert "torch.proto in this repository may answer it" in text


def test_a_folder_of_data_answers_only_what_it_can(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"datasets/train.csv": "a,b", "m.py": f"from datasets import load_dataset{SERVED}"}
    assert asked(requirements(write(tmp_path, files))) >= {"datasets"}
    files["m.py"] = f"import datasets{SERVED}"
    assert "datasets" not in asked(requirements(write(tmp_path, files)))


def test_unknown_and_unclear_imports_become_questions(tmp_path: Path) -> None:
    code = f"import summary_of_mine, clip, google.nothing.here\nimport google.protobuf{SERVED}"
    written = scaffold(detect(write(tmp_path, {"m.py": code})))
    text = next(file.text for file in written.files if file.path == "requirements.in")
    assert "# `import summary_of_mine` in m.py: unknown." in text
    assert "# `import google.nothing.here` in m.py: unknown." in text
    assert "#   git+https://github.com/openai/CLIP.git\n" in text
    assert asked(text) == {*SERVER_NEEDS, "protobuf"}
    assert any("`clip` (m.py)" in step and "`summary_of_mine` (m.py)" in step for step in written.todo)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("try:\n    import cupy\nexcept ImportError:\n    cupy = None", set()),
        ("try:\n    import lightgbm\nexcept ImportError:\n    raise RuntimeError('x')", {"lightgbm"}),
        ("try:\n    import ujson as json\nexcept ImportError:\n    import json", {"ujson"}),
        ("try:\n    import tomllib\nexcept ImportError:\n    import tomli as tomllib", set()),
        ("try:\n    import nothing_known\nexcept ImportError:\n    import orjson", {"orjson"}),
        ("try:\n    import numpy\nexcept (OSError, ValueError):\n    pass", {"numpy"}),
        ("try:\n    import redis\nexcept ImportError:\n    redis = None\nimport redis", {"redis"}),
        ("import sys\nif sys.version_info < (3, 8):\n    import tomli\nelse:\n    import numpy", {"numpy"}),
        ("import sys\nif sys.version_info >= (3, 13):\n    import numpy", {"numpy"}),
        ("import os\nif os.name == 'nt':\n    import psutil", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", set()),
        ("from .numpy_of_mine import torch\nfrom ..torch import x", set()),
    ],
)
def test_imports_that_the_code_can_do_without_are_not_written(tmp_path: Path, code: str, names: set[str]) -> None:
    text = requirements(write(tmp_path, {"m.py": code + SERVED}))
    assert asked(text) - {*SERVER_NEEDS} == names


def test_optional_imports_are_listed_as_comments(tmp_path: Path) -> None:
    code = f"try:\n    import psutil\nexcept ImportError:\n    psutil = None{SERVED}"
    assert "# psutil  # import psutil\n" in requirements(write(tmp_path, {"m.py": code}))


def test_a_repository_that_was_not_seen_whole_answers_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlship.init.local_names._ENTRIES", 1)
    text = requirements(write(tmp_path, {"m.py": f"import torch{SERVED}", "n.py": ""}))
    assert asked(text) == {*SERVER_NEEDS}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sklearn", "`requirements.txt` requires `sklearn`, but `import sklearn` is in `scikit-learn`; replace it"),
        ("scikit-learn", None),
        ("sklearn\nscikit-learn", None),
        ("psycopg2", None),  # brings the module, as psycopg2-binary does
    ],
)
def test_a_requirement_with_the_name_of_a_module_is_said(tmp_path: Path, line: str, said: str | None) -> None:
    notes = detect(
        write(tmp_path, {"m.py": f"import sklearn.svm, psycopg2{SERVED}", "requirements.txt": f"{line}\n"})
    ).notes
    assert [note for note in notes if "requires `" in note] == ([said] if said else [])


# --- PYTHONPATH


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"app/main.py": f"from utils import x{SERVED}", "app/utils.py": ""}, "app"),
        ({"python/pkg/main.py": f"import pkg.near{SERVED}", "python/pkg/near.py": ""}, "python"),
        ({"src/app/main.py": f"import utils{SERVED}", "src/app/utils.py": ""}, "src:src/app"),
        ({"main.py": f"import utils{SERVED}", "utils.py": ""}, None),
        ({"main.py": f"import utils{SERVED}", "utils.py": "", "old/utils.py": ""}, None),
        ({"app/main.py": f"import utils{SERVED}", "lib/utils.py": ""}, None),
        ({"app/main.py": f"import utils{SERVED}", "app/utils.py": "", "app/logging.py": ""}, None),
        ({"pkg/m.py": f"import numpy{SERVED}", "pkg/numpy.py": "", "pkg/__init__.py": ""}, None),
        ({"a/b/m.py": f"from utils import x{SERVED}", "a/utils/x.py": "", "a/__init__.py": ""}, "a"),
        ({"app/m.py": f"import utils{SERVED}", "app/utils.py": "", "app/torch.py": ""}, None),
        ({"python/src/magi/__init__.py": f"import magi{SERVED}", "python/src/magi/magi.py": ""}, "python/src"),
        ({"app/main.py": f"import sys\nsys.path.append('app')\nimport utils{SERVED}", "app/utils.py": ""}, None),
    ],
)
def test_python_path(tmp_path: Path, files: dict[str, str | bytes], path: str | None) -> None:
    first = next(iter(files))
    files[first] = f"import numpy\n{files[first]!s}"  # so that it has a known loader
    found = detect(write(tmp_path, files))
    assert found.python_path == path
    assert {need.line for need in found.imports.known} <= {"numpy"}


def test_an_import_from_another_folder_is_a_step_for_the_user_and_is_shipped(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"app/main.py": f"import utils{SERVED}", "lib/utils.py": "import numpy"}
    found = detect(write(tmp_path, files))
    assert found.source == ("app", "lib")
    assert [need.line for need in found.imports.known] == ["numpy"]
    assert any("`utils`" in step and "`lib`" in step for step in scaffold(found).todo)


def test_what_only_functions_import_is_required_if_it_is_known_what_runs(tmp_path: Path) -> None:
    code = "import numpy\ndef play(sound):\n    import simpleaudio, scipy\n    import numpy\n"
    found = detect(write(tmp_path, {"setup.py": "from setuptools import setup\nsetup(name='x')\n", "x.py": code}))
    assert [need.line for need in found.imports.known] == ["numpy"]
    assert found.imports.unknown == ()
    assert [need.line for need in found.imports.optional] == ["scipy"]
    found = detect(write(tmp_path, {"m.py": "import x\ndef load(): return x.play\n"}))
    assert [need.line for need in found.imports.known] == ["numpy", "scipy"]
