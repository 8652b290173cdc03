"""What a Dockerfile installs with pip is what its server has: files first, packages that they lack as well."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.init.builds import find_build
from mlship.init.detect import detect
from mlship.init.image_installs import read_image_installs
from mlship.init.scaffold import scaffold
from mlship.init.tree import read_tree
from tests.helpers.repos import write

FASTAPI = (
    "from fastapi import FastAPI\nimport torch\napp = FastAPI()\n@app.post('/predict')\ndef predict(x: int): return x\n"
)
FILES: dict[str, str | bytes] = {
    "requirements.txt": "numpy\n",
    "requirements-dev.txt": "pytest\n",
    "deps/gpu.txt": "torch==2.8.0\n",
    "main.py": FASTAPI,
}
_PARTS = st.sampled_from(
    [
        ("-r requirements.txt", "requirements.txt", ""),
        ("-r/srv/requirements.txt", "requirements.txt", ""),
        ("--requirement=deps/gpu.txt", "deps/gpu.txt", ""),
        ("--requirement /tmp/gpu.txt", "deps/gpu.txt", ""),
        ("-r requirements-dev.txt", "", ""),
        ("-r absent.txt", "", ""),
        ("torch==2.2.2", "", "torch==2.2.2"),
        ("'uvicorn[standard]>=0.3'", "", "uvicorn[standard]>=0.3"),
        ("--upgrade pip", "", ""),
        ("--extra-index-url https://x.org/simple", "", ""),
        ("--no-cache-dir", "", ""),
        ("-t /opt/lib", "", ""),
        ("$EXTRA", "", ""),
        ("--extra gpu", "", ""),  # not a package of that name
        ("--group=serve", "", ""),
        ("-e .", "", ""),
        (".", "", ""),
        ("pytest", "", ""),
        ("./wheels/a.whl", "", ""),
    ]
)
_PIPS = st.sampled_from(
    ["pip install", "pip3.12 install -q", "python -m pip --no-input install", "uv pip install --system"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(_PIPS, st.lists(_PARTS, min_size=1, max_size=4)), max_size=3),
    st.sampled_from(["\nRUN ", " && "]),
)
def test_each_requirement_of_each_command_is_read(
    tmp_path: Path, runs: list[tuple[str, list[tuple[str, str, str]]]], between: str
) -> None:
    lines = [f"{pip} {' '.join(part for part, *_ in parts)}" for pip, parts in runs]
    dockerfile = f"FROM python:3.12\nRUN {between.join(['true', *lines])}\nCMD uvicorn main:app\n"
    tree = read_tree(write(tmp_path, {**FILES, "Dockerfile": dockerfile}))
    found = read_image_installs(tree, find_build(tree))
    every = [part for _, parts in runs for part in parts]
    assert [one.origin for one in found.files] == [*dict.fromkeys(file for _, file, _ in every if file)]
    assert list(found.packages.lines) == [*dict.fromkeys(line for *_, line in every if line)]


def test_the_files_and_packages_of_the_image_are_required(tmp_path: Path) -> None:
    dockerfile = (
        "FROM python:3.12 AS deps\nRUN pip install -r deps/gpu.txt -r requirements.txt\nFROM deps\n"
        "RUN pip install pandas==2.0 numpy gunicorn\nCMD uvicorn main:app\n"
    )
    found = detect(write(tmp_path, {**FILES, "Dockerfile": dockerfile}))
    files = {file.path: file for file in scaffold(found).files}
    text = files["serving/requirements.in"].text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[:2] == ["-r ../deps/gpu.txt", "-r ../requirements.txt"]
    assert {"pandas==2.0  # Dockerfile installs it", "gunicorn  # Dockerfile installs it"} < {*lines}
    assert "numpy  # Dockerfile installs it" not in lines  # a file has it
    assert "as in your Dockerfile: pandas==2.0, gunicorn" in files["serving/requirements.in"].why


def test_tools_of_a_stage_that_is_not_shipped_are_left_out(tmp_path: Path) -> None:
    dockerfile = (
        "FROM python:3.12 AS build\nRUN pip install poetry==2.0 poetry-plugin-export cython\n"
        "FROM python:3.12\nRUN pip install -r requirements.txt\nCMD uvicorn main:app\n"
    )
    found = detect(write(tmp_path, {**FILES, "Dockerfile": dockerfile})).installs
    assert ([one.origin for one in found.files], found.packages.lines) == (["requirements.txt"], ())


@pytest.mark.parametrize(
    "run",
    [
        "apt-get install -y libgomp1",
        "pip uninstall -y setuptools && pip check",
        "pip cache purge && conda clean -afy",
        "conda update -n base conda",
        "uv pip list",
    ],
)
def test_a_stage_that_installs_no_packages_has_those_that_it_copies(tmp_path: Path, run: str) -> None:
    dockerfile = (
        "FROM python:3.12 AS build\nRUN pip install -r serve.txt\n"
        f"FROM python:3.12\nRUN {run}\nCOPY --from=build /usr /usr\nCMD uvicorn main:app\n"
    )
    files = {**FILES, "serve.txt": "scipy\n", "requirements.txt": "tensorrt\n", "Dockerfile": dockerfile}
    found = detect(write(tmp_path, files))
    assert [one.origin for one in found.installs.files] == ["serve.txt"]
    assert not found.gpus.wanted  # what is not installed needs none


@pytest.mark.parametrize(
    "run", ["pip --no-cache-dir install torch", "uv pip install torch", "uv sync", "conda env update -f env.yml"]
)
def test_a_stage_that_installs_packages_has_only_those(tmp_path: Path, run: str) -> None:
    dockerfile = f"FROM python:3.12 AS build\nRUN pip install -r serve.txt\nFROM python:3.12\nRUN {run}\n"
    found = detect(write(tmp_path, {**FILES, "serve.txt": "scipy\n", "Dockerfile": dockerfile}))
    assert found.installs.files == ()


def test_an_installed_project_is_required_by_its_own_file(tmp_path: Path) -> None:
    project = "[project]\nname = 'x'\ndependencies = ['torch>=2', 'fastapi', 'uvicorn']\n"
    dockerfile = "FROM python:3.12\nRUN pip install --upgrade pip && pip install '.[cpu]'\nCMD uvicorn main:app\n"
    found = detect(write(tmp_path, {**FILES, "pyproject.toml": project, "Dockerfile": dockerfile}))
    files = {file.path: file for file in scaffold(found).files}
    assert "from pyproject.toml" in files["requirements.in"].why


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("uv pip install --system -r pyproject.toml", ""),
        ("uv pip install -r pyproject.toml --extra gpu", "gpu"),
        ("uv sync --frozen --no-dev", ""),
        ("uv sync --frozen --extra=gpu --group serve", "gpu serve"),
        ("pip install '.[gpu]'", "gpu"),
        ("pip install -e .[gpu,serve]", "gpu serve"),
        ("poetry install --no-root -E gpu", "gpu"),
        ("pip install '.[My_Tools]'", "my-tools"),
        ("uv sync --extra my-tools --group all", "my-tools serve"),
        ("uv sync --all-extras --no-dev", "gpu my-tools"),
        ("poetry install --extras 'gpu serve'", "gpu serve"),
        ("uv sync --all-groups", "serve"),
        ("uv sync --only-group serve", "serve"),
        ("uv export --extra gpu -o requirements.lock", "gpu"),
        ("pdm install --prod -G gpu", "gpu"),
    ],
)
def test_the_extras_that_an_image_has_are_required(tmp_path: Path, command: str, extras: str) -> None:
    project = "[project]\ndependencies=['numpy']\n[project.optional-dependencies]\ngpu=['cupy']\nmy_tools=['tqdm']\n"
    files: dict[str, str | bytes] = {
        **FILES,
        "pyproject.toml": f"{project}[dependency-groups]\nserve=['gunicorn']\nAll=[{{include-group='Serve'}}]\n",
        "Dockerfile": f'FROM python:3.12\nRUN {command}\nCMD ["uvicorn", "main:app"]\n',
    }
    planned = scaffold(detect(write(tmp_path, files)))
    text = next(file.text for file in planned.files if file.path == "requirements.in")
    asked = {line.partition(" ")[0] for line in text.splitlines() if line[0] != "#"}
    of = {"gpu": "cupy", "serve": "gunicorn", "my-tools": "tqdm"}
    assert asked - {"fastapi", "uvicorn"} == {"numpy", *(of[one] for one in extras.split())}


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("poetry install", ""),
        ("poetry install --all-extras", "gpu my-tools"),
        ("poetry install -E my_tools", "my-tools"),
        ("poetry install --only main,serve", "serve"),
        ("poetry install --with serve --extras 'gpu my_tools'", "gpu serve my-tools"),
        ("poetry install --all-groups", "serve"),
    ],
)
def test_the_extras_and_groups_of_poetry_that_an_image_has_are_required(
    tmp_path: Path, command: str, extras: str
) -> None:
    optional = "".join(f"{name}={{version='*',optional=true}}\n" for name in ("cupy", "tqdm"))
    project = f"[tool.poetry.dependencies]\npython='^3.12'\nnumpy='*'\n{optional}"
    groups = "".join(
        f"[tool.poetry.group.{group}.dependencies]\n{name}='*'\n"
        for group, name in (("serve", "gunicorn"), ("dev", "tox"))
    )
    extra = "[tool.poetry.extras]\ngpu=['CuPy']\nmy_tools=['tqdm']\nwhole=['cupy', 'tqdm']\n"
    dockerfile = f'FROM python:3.12\nRUN {command}\nCMD ["uvicorn", "main:app"]\n'
    planned = scaffold(
        detect(write(tmp_path, {**FILES, "pyproject.toml": f"{project}{extra}{groups}", "Dockerfile": dockerfile}))
    )
    text = next(file.text for file in planned.files if file.path == "requirements.in")
    asked = {line.partition(" ")[0] for line in text.splitlines() if line[0] != "#"}
    of = {"gpu": "cupy", "serve": "gunicorn", "my-tools": "tqdm"}
    assert asked - {"fastapi", "uvicorn"} == {"numpy", *(of[one] for one in extras.split())}
    assert "Extra `optional`" not in text
    assert asked.isdisjoint(line.removeprefix("# ").partition(" ")[0] for line in text.splitlines() if line[0] == "#")


def test_requirements_that_are_named_for_serving_come_first(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {**FILES, "requirements-serve.txt": "fastapi\nuvicorn\ntorch\n"}))
    assert next(kept.path for kept in scaffold(found).kept) == "requirements-serve.txt"


def test_a_dockerfile_that_starts_something_else_says_nothing_of_the_server(tmp_path: Path) -> None:
    dockerfile = "FROM python:3.12\nRUN pip install -r deps/gpu.txt\nCMD streamlit run && true\n"
    found = detect(write(tmp_path, {**FILES, "Dockerfile": dockerfile}))
    assert found.server is not None
    assert found.installs.files == ()


@pytest.mark.parametrize("text", ["RUN pip install $(cat x)", "RUN conda install torch", "RUN echo pip install torch"])
def test_what_is_no_install_or_not_decided_is_left_out(tmp_path: Path, text: str) -> None:
    tree = read_tree(write(tmp_path, {**FILES, "Dockerfile": f"FROM python:3.12\n{text}\nCMD uvicorn main:app\n"}))
    assert read_image_installs(tree, find_build(tree)).packages.lines == ()


def _required(tmp_path: Path, *runs: str) -> tuple[str, tuple[str, ...]]:
    """The written requirements and the notes for a Dockerfile with these pip commands."""
    lines = "\n".join(f"RUN {run}" for run in runs)
    files: dict[str, str | bytes] = {"Dockerfile": f"FROM python:3.12\n{lines}\nCMD uvicorn main:app\n"}
    found = detect(write(tmp_path, {**FILES, "wheels/own-1.0-py3-none-any.whl": b"x", **files}))
    return "".join(f.text for f in scaffold(found).files if f.path.endswith("requirements.in")), found.notes


@pytest.mark.parametrize("files", ["", " -r requirements.txt"])
@pytest.mark.parametrize("how", ["--extra-index-url ", "--index-url=", "-f ", "--index "])
def test_a_name_keeps_the_index_that_it_comes_from(tmp_path: Path, how: str, files: str) -> None:
    text, _ = _required(tmp_path, f"pip install {how}https://pypi.corp.example/simple corp-lib==1.0{files}")
    assert "corp-lib==1.0" in text
    name = {"-f ": "--find-links", "--index ": "--extra-index-url"}.get(how, how.rstrip(" ="))
    assert f"{name} https://pypi.corp.example/simple\n" in text


def test_an_index_of_a_files_command_or_of_a_variable_is_kept(tmp_path: Path) -> None:
    text, _ = _required(tmp_path, "PIP_INDEX_URL=https://a.example pip install -r requirements.txt")
    assert text.splitlines()[1:3] == ["-r ../requirements.txt", "--index-url https://a.example"]


@pytest.mark.parametrize(
    ("runs", "line", "why"),
    [
        (["pip install -i https://u:pw@a.example corp-lib"], 2, "contains a password"),
        (["pip install --extra-index-url $URL corp-lib"], 2, "does not say where"),
        (["pip install --no-index -f /wheels corp-lib"], 2, "does not say where"),
        (["--mount=type=secret,id=pip.conf,target=/etc/pip.conf pip install corp-lib"], 2, "does not say where"),
        (["--mount=type=secret,id=x,env=PIP_INDEX_URL pip install corp-lib"], 2, "does not say where"),
        (["pip config set global.index-url https://a.example", "pip install corp-lib"], 3, "does not say where"),
        (["true\nARG PIP_EXTRA_INDEX_URL\nRUN pip install corp-lib"], 4, "does not say where"),
        (["pip install pandas", "pip install -i https://a.example corp-lib"], 3, "another index"),
    ],
)
def test_no_name_is_required_without_its_index(tmp_path: Path, runs: list[str], line: int, why: str) -> None:
    text, notes = _required(tmp_path, *runs)
    assert "corp-lib" not in text
    assert "a.example" not in text
    (note,) = (note for note in notes if note.startswith(f"Dockerfile, line {line}: "))
    assert "`corp-lib`" in note
    assert why in note
    assert "pw" not in note


def test_no_name_is_required_if_the_repository_has_settings_of_pip(tmp_path: Path) -> None:
    write(tmp_path, {"docker/pip.conf": "[global]\nextra-index-url = https://a.example\n"})
    text, notes = _required(tmp_path, "pip install corp-lib")
    assert "corp-lib" not in text
    assert any(note.startswith("Dockerfile, line 2: `corp-lib`: check the index") for note in notes)


def test_the_index_of_pytorch_is_added_to_pypi(tmp_path: Path) -> None:
    cpu = "https://download.pytorch.org/whl/cpu"
    text, _ = _required(tmp_path, f"pip install --index-url {cpu} torch==2.8.0", "pip install pandas")
    assert {"torch==2.8.0", "pandas"} <= {line.partition(" ")[0] for line in text.splitlines()}
    assert f"--extra-index-url {cpu}\n" in text


def test_direct_references_are_required_or_named(tmp_path: Path) -> None:
    clip = "git+https://github.com/openai/CLIP.git"
    text, notes = _required(
        tmp_path, f"pip install {clip} ./wheels/own-1.0-py3-none-any.whl ./absent.whl git+https://t:pw@a.example/x.git"
    )
    assert text.count(clip) == 1
    assert "\n./wheels/own-1.0-py3-none-any.whl\n" in text
    assert "a.example" not in text
    named = [note for note in notes if note.startswith("Dockerfile, line 2: ")]
    assert any("`./absent.whl` is left out" in note for note in named)
    assert any("contains a password" in note for note in named)


@pytest.mark.parametrize(
    ("copy", "installed"),
    [
        ("COPY deps/gpu.txt requirements.txt\nRUN pip install -r requirements.txt", "deps/gpu.txt"),
        ("COPY deps/gpu.txt /tmp/\nRUN pip install -r /tmp/gpu.txt", "deps/gpu.txt"),
        ("COPY deps /deps/\nWORKDIR /deps\nRUN pip install -r gpu.txt\nWORKDIR /srv", "deps/gpu.txt"),
        ("COPY deps/*.txt .\nRUN pip install -r gpu.txt", "deps/gpu.txt"),
        ("COPY . .\nCOPY deps/gpu.txt requirements.txt\nRUN pip install -r requirements.txt", "deps/gpu.txt"),
        ("COPY deps/gpu.txt requirements.txt\nCOPY . .\nRUN pip install -r requirements.txt", "requirements.txt"),
        (
            "RUN --mount=type=bind,source=deps/gpu.txt,target=requirements.txt pip install -r requirements.txt",
            "deps/gpu.txt",
        ),
        ("COPY absent.txt requirements.txt\nRUN pip install -r requirements.txt", "requirements.txt"),
    ],
)
def test_a_requirements_file_is_the_one_that_the_image_has_under_its_name(
    tmp_path: Path, copy: str, installed: str
) -> None:
    tree = read_tree(write(tmp_path, {**FILES, "Dockerfile": f"FROM python:3.12\nWORKDIR /srv\n{copy}\n"}))
    assert [file.origin for file in read_image_installs(tree, find_build(tree)).files] == [installed]
