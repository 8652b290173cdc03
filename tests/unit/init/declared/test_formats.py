"""Each format says what it says: requirements, roles, Python, Debian packages; the rest is a note, never a guess."""

from pathlib import Path

import pytest

from mlship.init.declared.collect import Collected, _folders, collect
from mlship.init.declared.documents import read_document
from mlship.init.declared.poetry import UnclearError, pep440
from mlship.init.declared.projects import read_pipfile
from mlship.init.declared.result import Declared, Entry
from mlship.init.tree import read_tree
from tests.helpers.repos import write


def gathered(repo: Path, files: dict[str, str | bytes], served: str | None = None) -> Collected:
    return collect(read_tree(write(repo, files)), served)


def one(repo: Path, name: str, text: str, **more: str) -> Declared:
    found = gathered(repo, {name: text, **{key.replace("__", "."): value for key, value in more.items()}}).declared
    return next(declared for declared in found if declared.origin == name)


@pytest.mark.parametrize(
    ("constraint", "specifier"),
    [
        ("^1.2.3", ">=1.2.3,<2"), ("^0.2.3", ">=0.2.3,<0.3"), ("^0.0.3", ">=0.0.3,<0.0.4"), ("^1", ">=1,<2"),
        ("^0", ">=0,<1"), ("~1.2.3", ">=1.2.3,<1.3"), ("~1", ">=1,<2"), ("*", ""), ("1.2.*", "==1.2.*"),
        ("1.2", "==1.2"), (">=1,<2", ">=1,<2"), (">= 1.0, < 2.0", ">=1.0,<2.0"),
        ("~=1.4", "~=1.4"), ("!=1.5", "!=1.5"),
        ("^2.0b1", ">=2.0b1,<3"), (">=1 <2", ">=1,<2"),
    ],
)  # fmt: skip
def test_constraints_of_poetry_become_pep_440(constraint: str, specifier: str) -> None:
    assert pep440(constraint) == specifier


@pytest.mark.parametrize("constraint", ["^1 || ^2", "latest", "^x", "1..2", "^"])
def test_constraints_without_a_form_in_pep_440_are_unclear(constraint: str) -> None:
    with pytest.raises(UnclearError):
        pep440(constraint)


def test_poetry(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        "pyproject.toml",
        """
[tool.poetry.dependencies]
python = "^3.11"
numpy = "^1.26"
torch = {version = "~2.4", extras = ["opt"], markers = "sys_platform == 'linux'"}
redis = {version = "*", optional = true}
scorer = {path = "../scorer", develop = true}
ours = {git = "https://example.org/ours.git", tag = "v1"}
odd = ">=1 || <0.5"
[tool.poetry.group.dev.dependencies]
pytest = "*"
[tool.poetry.group.gpu.dependencies]
cupy = "*"
""",
    )
    assert found.lines == (
        "numpy>=1.26,<2", "torch[opt]>=2.4,<2.5 ; (sys_platform == 'linux')", "ours @ git+https://example.org/ours.git@v1",
    )  # fmt: skip
    assert {(entry.name, entry.role) for entry in found.entries if entry.role != "main"} == {
        ("redis", "extra"), ("pytest", "dev"), ("cupy", "extra"),
    }  # fmt: skip
    assert [package.path for package in found.packages] == ["../scorer"]
    assert found.python == ">=3.11,<4"
    assert found.notes == (
        "pyproject.toml: `odd` not understood: alternatives (`||`) have no form in pip's requirements",
    )


def test_pep_621_extras_groups_and_uv_sources(tmp_path: Path) -> None:
    text = """
[project]
requires-python = ">=3.12"
dependencies = ["numpy>=1", "shared", 7, "=="]
optional-dependencies = {gpu = ["cupy"], test = ["pytest"]}
[dependency-groups]
dev = ["ruff", {include-group = "x"}]
[tool.uv.sources]
shared = {workspace = true}
"""
    shared = {"packages/shared/pyproject.toml": "[project]\nname = 'Shared'"}
    found = gathered(tmp_path, {"pyproject.toml": text, **shared}).declared[0]
    assert found.lines == ("numpy>=1",)  # `shared` is never asked from an index
    assert [package.path for package in found.packages] == ["packages/shared"]
    assert found.python == ">=3.12"
    assert {entry.name: entry.role for entry in found.entries if entry.role != "main"} == {
        "cupy": "extra", "pytest": "dev", "ruff": "dev",
    }  # fmt: skip
    assert found.notes == ("pyproject.toml: not understood: `7`", "pyproject.toml: not understood: `==`")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{git = 'https://example.org/ours'}", "Our_Lib[fast] @ git+https://example.org/ours ; os_name == 'x'"),
        ("{git = 'https://example.org/a', rev = 'v1', subdirectory = 'lib'}",
         "Our_Lib[fast] @ git+https://example.org/a@v1#subdirectory=lib ; os_name == 'x'"),
        ("{git = 'git@example.org:o/a.git'}",
         "Our_Lib[fast] @ git+ssh://git@example.org/o/a.git ; os_name == 'x'"),
        ("{url = 'https://example.org/a.whl'}", "Our_Lib[fast] @ https://example.org/a.whl ; os_name == 'x'"),
        ("{index = 'other'}", "Our_Lib[fast]>=1 ; os_name == 'x'"),
        ("[{index = 'other'}]", "Our_Lib[fast]>=1 ; os_name == 'x'"),
        ("7", "Our_Lib[fast]>=1 ; os_name == 'x'"),
    ],
)  # fmt: skip
def test_what_uv_gets_from_a_repository_or_file_is_not_asked_from_an_index(
    tmp_path: Path, source: str, line: str
) -> None:
    """A stranger may have the name there."""
    text = f"""[project]
dependencies = ["Our_Lib[fast]>=1 ; os_name == 'x'"]
[tool.uv.sources]
our-lib = {source}
"""
    assert [one.replace('"', "'") for one in gathered(tmp_path, {"pyproject.toml": text}).declared[0].lines] == [line]


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("setup(install_requires=['numpy>=1', 'scipy'])", ("numpy>=1", "scipy")),
        ("R = ['numpy']\nsetup(install_requires=R + ['scipy'])", ("numpy", "scipy")),
        ("from setuptools import *\nsetuptools.setup(install_requires='numpy\\nscipy')", ("numpy", "scipy")),
        ("setup(install_requires=open('requirements.in').read().splitlines())", ("torch",)),
        (
            "with open('requirements.in') as f:\n    lines = f.read().splitlines()\nsetup(install_requires=lines)",
            ("torch",),
        ),
        ("R = [l.strip() for l in open('requirements.in') if l]\nsetup(install_requires=R)", ("torch",)),
        ("def read(n):\n    return open(n).readlines()\nsetup(install_requires=read('requirements.in'))", ("torch",)),
        ("D = {'a': ['numpy']}\nsetup(install_requires=D['a'])", ("numpy",)),
        ("R = ['numpy']\nR.append(x())\nsetup(install_requires=R)", ("numpy",)),
        ("R = find()\nsetup(install_requires=R)", ()),
        ("R = ['numpy']\nR.remove('numpy')\nsetup(install_requires=R)", ()),
        ("R = ['a']\nR = ['b']\nsetup(install_requires=R)", ()),
        ("setup(install_requires=[n + '>=1' for n in ['numpy']])", ()),
        ("setup(**arguments)", ()),
    ],
)
def test_setup_py_is_read_without_running_it(tmp_path: Path, code: str, lines: tuple[str, ...]) -> None:
    found = one(tmp_path, "setup.py", code, requirements__in="torch\n")
    assert found.lines == lines
    assert bool(found.notes) == (lines == () or "append" in code)


def test_pipfile(tmp_path: Path) -> None:
    text = "[packages]\nnumpy = '*'\nflask = '==2.0'\nours = {path = './lib'}\n[dev-packages]\nblack='*'\n[requires]\n"
    found = one(tmp_path, "Pipfile", text + "python_version = '3.12'")
    assert (found.lines, found.python) == (("numpy", "flask==2.0"), "==3.12.*")
    assert [package.path for package in found.packages] == ["lib"]


def test_conda_names_are_translated_or_left_to_the_user(tmp_path: Path) -> None:
    text = """
dependencies:
  - python=3.11
  - pytorch::pytorch=2.4.1=py3.11_cuda
  - scikit-learn>=1.5
  - numpy=1.26
  - ffmpeg
  - libgcc-ng=13
  - somethingunheard
  - pip: [fastapi==0.110, -e ., --extra-index-url https://example.org/simple]
"""
    found = one(tmp_path, "environment.yml", text)
    assert found.lines == ("torch==2.4.1", "scikit-learn>=1.5", "numpy==1.26.*", "fastapi==0.110")
    assert (found.python, found.system) == ("==3.11.*", ("ffmpeg",))
    assert found.options == ("--extra-index-url https://example.org/simple",)
    assert found.notes == ("environment.yml: no known name on PyPI: somethingunheard",)


def test_cog(tmp_path: Path) -> None:
    text = """
build:
  gpu: true
  python_version: "3.11"
  python_packages: ["torch==2.4", "pillow"]
  python_requirements: ./more.txt
  system_packages: [ffmpeg]
  run: [echo]
predict: "predict.py:Predictor"
"""
    found = one(tmp_path, "cog.yaml", text, more__txt="numpy\n")
    assert found.lines == ("torch==2.4", "pillow", "numpy")
    assert (found.python, found.system, found.gpu) == ("==3.11.*", ("ffmpeg",), "has `gpu: true`")
    assert found.predictor == "predict.py:Predictor"
    assert found.notes == ("cog.yaml: not used: `run` commands",)


def test_bentofile_and_mlflow(tmp_path: Path) -> None:
    bento = "service: 'service:svc'\npython: {packages: [numpy], index_url: 'https://example.org'}\n"
    found = one(
        tmp_path / "bento", "bentofile.yaml", bento + "docker: {python_version: '3.12', system_packages: [git]}"
    )
    assert (found.lines, found.options) == (("numpy",), ("--index-url https://example.org",))
    assert (found.python, found.system, found.predictor) == ("==3.12.*", ("git",), "service:svc")
    model = "flavors: {python_function: {python_version: 3.11.7, loader_module: mlflow.sklearn}}"
    found = one(tmp_path / "mlflow", "MLmodel", model, requirements__txt="mlflow==2.1\nscikit-learn\n")
    assert (found.lines, found.python) == (("mlflow==2.1", "scikit-learn"), "==3.11.*")


LOCKS = {
    "uv.lock": """
requires-python = ">=3.11"
[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://pypi.org/simple" }
[[package]]
name = "torch"
version = "2.4.0+cpu"
source = { registry = "https://download.pytorch.org/whl/cpu" }
resolution-markers = ["sys_platform != 'darwin'"]
[[package]]
name = "torch"
version = "2.4.1"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["sys_platform == 'darwin'"]
[[package]]
name = "own"
version = "0.1"
source = { editable = "." }
[[package]]
name = "forked"
version = "1.0"
source = { git = "https://example.org/x.git" }
""",
    "poetry.lock": """
[[package]]
name = "numpy"
version = "1.26.4"
[[package]]
name = "torch"
version = "2.4.0"
markers = "sys_platform != 'darwin'"
[[package]]
name = "torch"
version = "2.4.1"
markers = "sys_platform == 'darwin'"
[[package]]
name = "forked"
version = "1.0"
[package.source]
type = "git"
url = "https://example.org/x.git"
[metadata]
python-versions = ">=3.11"
""",
    "pdm.lock": """
[metadata]
requires_python = ">=3.11"
[[package]]
name = "numpy"
version = "1.26.4"
[[package]]
name = "torch"
version = "2.4.0"
marker = "sys_platform != 'darwin'"
[[package]]
name = "torch"
version = "2.4.1"
marker = "sys_platform == 'darwin'"
[[package]]
name = "forked"
version = "1.0"
git = "https://example.org/x.git"
""",
    "pylock.toml": """
lock-version = "1.0"
requires-python = ">=3.11"
[[packages]]
name = "numpy"
version = "1.26.4"
[[packages]]
name = "torch"
version = "2.4.0"
marker = "sys_platform != 'darwin'"
[[packages]]
name = "torch"
version = "2.4.1"
marker = "sys_platform == 'darwin'"
[[packages]]
name = "forked"
vcs = { type = "git", url = "https://example.org/x.git" }
""",
}


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_are_constraints_with_their_markers(tmp_path: Path, name: str) -> None:
    found = one(tmp_path, name, LOCKS[name])
    assert found.lock
    assert found.python == ">=3.11"
    numpy, *torch = found.lines
    assert numpy == "numpy==1.26.4"
    assert [line.replace("(", "").replace(")", "") for line in torch] == [
        "torch==2.4.0 ; sys_platform != 'darwin'", "torch==2.4.1 ; sys_platform == 'darwin'",
    ]  # fmt: skip
    assert found.notes == (
        f"{name}: `forked` not used: {'no version' if name == 'pylock.toml' else 'not from an index'}",
    )


def test_pipfile_lock(tmp_path: Path) -> None:
    text = """{"_meta": {"requires": {"python_version": "3.11"}}, "default": {"Numpy": {"version": "==1.26.4"},
    "x": {"git": "https://example.org/x.git"}}, "develop": {"pytest": {"version": "==8.0"}}}"""
    found = one(tmp_path, "Pipfile.lock", text)
    assert (found.lines, found.python) == (("numpy==1.26.4", "pytest==8.0"), "==3.11.*")


def test_requirements_files(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "\ufeffnumpy \\\n  >=1\r\n-r a.txt\r\n-c c.txt\r\ngit+https://example.org/x.git@v1#egg=x\r\n"
        "./wheels/own-1.0-py3-none-any.whl\r\n-e ../shared[a]\r\n-i https://example.org/simple\r\n"
        "--extra-index-url https://me:secret@example.org\r\n",
        "a.txt": "-r requirements.txt\nscipy; python_version>'3'\n", "c.txt": "scipy<2",
    }  # fmt: skip
    found = gathered(tmp_path, files).declared[0]
    assert found.lines == ("numpy >=1", "scipy; python_version>'3'", "x @ git+https://example.org/x.git@v1")
    assert [package.path for package in found.packages] == ["wheels/own-1.0-py3-none-any.whl", "../shared"]
    assert found.options == ("-c c.txt", "-i https://example.org/simple")
    assert found.notes == ("requirements.txt, line 9: not copied, because the address contains a password",)


def test_a_requirements_file_of_powershell_is_read(tmp_path: Path) -> None:
    found = gathered(tmp_path, {"requirements.txt": "numpy==1.0\r\n".encode("utf-16")}).declared[0]
    assert (found.lines, found.usable) == (("numpy==1.0",), False)


def test_the_folder_is_that_of_the_served_code(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"api/requirements.txt": "flask", "ui/requirements.txt": "streamlit"}
    found = gathered(tmp_path, files, "api/app/main.py")
    assert [declared.origin for declared in found.declared] == ["api/requirements.txt"]
    assert found.notes == ("`ui` has its own requirements, not used here; for one, run `mlship init -C FOLDER`",)
    assert gathered(tmp_path, {}, "other/main.py").declared == ()
    assert gathered(tmp_path, {}).projects == ("api", "ui")


def test_the_only_folder_with_requirements_is_used(tmp_path: Path) -> None:
    found = gathered(tmp_path, {"python/requirements.txt": "flask", "docs/requirements.txt": "sphinx"})
    assert [declared.origin for declared in found.declared] == ["python/requirements.txt"]
    assert found.notes == ("used the requirements of `python`",)


@pytest.mark.parametrize(
    ("marker", "named"),
    [
        ("", True),
        ("; platform_system != 'Windows'", True),
        ("; sys_platform == 'linux' and python_version >= '3.9'", True),
        ("; platform_system == 'Windows'", False),
        ("; python_version < '3.11'", False),
        ("; python_version < '3.13'", False),
    ],
)
def test_a_requirement_counts_only_if_it_always_reaches_the_image(marker: str, named: bool) -> None:
    found = Declared("requirements.txt", entries=(Entry(f"onnxruntime{marker}"),))
    assert found.names == ({"onnxruntime"} if named else set())
    assert found.lines == (f"onnxruntime{marker}",)


@pytest.mark.parametrize(("folder", "package"), [("", "shared"), ("api/", "api/shared"), ("a/b/", "a/b/shared")])
def test_packages_of_a_pipfile_are_beside_it(tmp_path: Path, folder: str, package: str) -> None:
    path = f"{folder}Pipfile"
    tree = read_tree(write(tmp_path, {path: "[packages]\nshared = {path = './shared', editable = true}"}))
    assert [one.path for one in read_pipfile(tree, path, read_document(tree, path)).packages] == [package]


@pytest.mark.parametrize("path", ["requirements/base.txt", "api/requirements/base.txt", "a/b/requirements/base.txt"])
def test_a_folder_of_requirements_belongs_to_the_one_above(tmp_path: Path, path: str) -> None:
    folder = path.partition("requirements/")[0].rstrip("/")
    assert _folders(read_tree(write(tmp_path, {path: "numpy"}))) == {folder: [path]}


@pytest.mark.parametrize(
    ("text", "origin", "why"),
    [
        ("", "api/requirements.txt", "the nearest to the served code"),
        ("pip install -r requirements.txt", "requirements.txt", "installed by the README or CI"),
        ("git clone x\ncd my-repo\npip install -r ./requirements.txt", "requirements.txt", "installed by the README"),
        ("pip install -r api/requirements.txt", "api/requirements.txt", "installed by the README or CI"),
        ("cd api && pip install -r requirements.txt", "api/requirements.txt", "installed by the README or CI"),
        ("cd api\nls\ncd ..\npip install -r requirements.txt", "requirements.txt", "installed by the README or CI"),
        ("working-directory: ./api\nrun: pip install -q -r requirements.txt", "api/requirements.txt", "installed by"),
        ("- run: pip install -r requirements.txt\n  working-directory: api", "api/requirements.txt", "installed by"),
        (
            "- run: ls\n  working-directory: api\n- run: pip install -r requirements.txt",
            "requirements.txt",
            "installed",
        ),
        ("cd api\npip install -r ../requirements.txt", "requirements.txt", "installed by the README or CI"),
        ("- cd api\n- pip install -r requirements.txt", "api/requirements.txt", "installed by the README or CI"),
        ("pip install -r requirements.txt -r api/requirements.txt", "api/requirements.txt", "installed by the README"),
        ("pip install -r docs/requirements.txt", "api/requirements.txt", "the nearest to the served code"),
    ],
)
@pytest.mark.parametrize("place", ["README.md", "Makefile", ".github/workflows/ci.yml", ".gitlab-ci.yml"])
def test_of_two_files_above_the_server_the_texts_decide(
    tmp_path: Path, text: str, origin: str, why: str, place: str
) -> None:
    files = {"api/main.py": "", "api/requirements.txt": "httpx\n", "requirements.txt": "numpy\n", place: text}
    found = collect(read_tree(write(tmp_path, {**files})), "api/main.py")
    assert found.declared[0].origin == origin
    assert found.notes[0].startswith(f"used `{origin}`, {why}")
    assert collect(read_tree(tmp_path), "api/main.py", {""}).notes == ()  # the Dockerfile says it
