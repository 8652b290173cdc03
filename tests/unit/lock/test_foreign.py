"""Locks of every tool give the same pins; what has no version on this platform is never given one."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.lock.foreign import ForeignLock, read_foreign_lock

NAMES = st.from_regex(r"[a-z][a-z0-9]{1,8}(-[a-z0-9]{1,5})?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}(\.[0-9])?(\+cu1[12][0-9])?", fullmatch=True)
EXPORT = "# This file may be used to create an environment using:\n# platform: linux-64\n"
CONDA = "# packages in environment at /x:\n#\n"
PIXI = "version: 6\nenvironments:\n  default:\n    packages:\n      linux-64:\n"
PINS = st.dictionaries(NAMES, VERSIONS, min_size=1, max_size=6)


def read(folder: Path, text: str, platform: str = "linux/amd64") -> ForeignLock:
    file = folder / "lock"
    file.write_bytes(text.encode(errors="replace"))
    return read_foreign_lock(file, platform)


def versions(lock: ForeignLock) -> dict[str, str]:
    return {pin.name: pin.version for pin in lock.pins}


def written(pins: dict[str, str]) -> dict[str, str]:
    """The same pins as each tool writes them."""
    tables = "".join(f'[[package]]\nname = "{name}"\nversion = "{version}"\n\n' for name, version in pins.items())
    return {
        "pip": "".join(f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n" for name, version in pins.items()),
        "freeze": "".join(f"{name.replace('-', '_').title()}=={version}\n" for name, version in pins.items()),
        "uv": f"version = 1\nrequires-python = '>=3.11'\n\n{tables}",
        "pylock": f"lock-version = '1.0'\n{tables.replace('[[package]]', '[[packages]]')}",
        "pylock of pip": "lock-version = '1.0'\npackages = [\n"
        + "".join(f'    {{ name = "{name}", version = "{version}" }},\n' for name, version in pins.items())
        + "]\n",
        "pipfile": json.dumps({"_meta": {}, "default": {n: {"version": f"=={v}"} for n, v in pins.items()}}),
        "pip list": json.dumps([{"name": name, "version": version} for name, version in pins.items()], indent=1),
        "conda list": json.dumps([{"name": n, "version": v, "channel": "pypi"} for n, v in pins.items()]),
        "conda": CONDA + "".join(f"{name}  {version}  pypi_0  pypi\n" for name, version in pins.items()),
        "pixi": f"{PIXI}{''.join(f'      - pypi: https://x/{name}.tar.gz{chr(10)}' for name in pins)}packages:\n"
        + "".join(
            f"- pypi: https://x/{name}.tar.gz\n  name: '{name}'\n  version: '{version}'\n"
            for name, version in pins.items()
        ),
    }


@pytest.mark.slow
@given(PINS)
def test_every_tool_says_the_same(tmp_path_factory: pytest.TempPathFactory, pins: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("locks")
    for tool, text in written(pins).items():
        lock = read(folder, text)
        assert (versions(lock), lock.loose, lock.foreign) == (pins, (), ()), tool
        assert all(pin.hashes == (("0" * 64,) if tool == "pip" else ()) for pin in lock.pins), tool
        assert lock.whole == (tool != "freeze"), tool


@given(st.text(max_size=200))
def test_no_text_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    with contextlib.suppress(UsageError):
        read(tmp_path_factory.mktemp("locks"), text)


def test_a_fork_is_decided_by_its_markers(tmp_path: Path) -> None:
    text = """
[[package]]
name = "torch"
version = "2.8.0"
resolution-markers = ["sys_platform == 'darwin'"]

[[package]]
name = "torch"
version = "2.8.0+cu128"
resolution-markers = ["platform_machine == 'x86_64' and sys_platform == 'linux'", "sys_platform == 'win32'"]

[[package]]
name = "triton"
version = "3.4.0"
resolution-markers = ["platform_machine == 'aarch64'"]
"""
    assert versions(read(tmp_path, text)) == {"torch": "2.8.0+cu128"}
    assert versions(read(tmp_path, text, "linux/arm64")) == {"triton": "3.4.0"}


@pytest.mark.parametrize(
    ("sets", "named", "option"),
    [
        (
            '[[{ package = "p", extra = "cu12" }, { package = "p", extra = "cu13" }]]',
            "cu12, --extra cu13",
            "extra cu12",
        ),
        ('[[{ extra = "cpu" }, { extra = "cu128" }]]', "cu128, --extra cpu", "extra cu128"),
        ('[[{ package = "p", group = "a" }, { package = "p", extra = "b" }]]', "--group a, --extra b", "group a"),
        ('[[{ package = "one" }, { package = "two" }], [{ package = "one" }]]', "one, --package two", "package one"),
    ],
)
def test_alternatives_are_refused_with_the_command_for_one(tmp_path: Path, sets: str, named: str, option: str) -> None:
    text = f'version = 1\nconflicts = {sets}\n[[package]]\nname = "torch"\nversion = "2.8.0"\n'
    with pytest.raises(UsageError, match=named) as refused:
        read(tmp_path, text)
    assert f"`uv export --frozen --no-dev --{option} --output-file chosen.txt`" in (refused.value.hint or "")


def test_conflicts_of_another_shape_refuse_nothing(tmp_path: Path) -> None:
    text = 'version = 1\nconflicts = ["x"]\n[[package]]\nname = "numpy"\nversion = "2.8.0"\n'
    assert versions(read(tmp_path, text)) == {"numpy": "2.8.0"}


@given(
    operator=st.sampled_from(["<", "<=", "==", ">=", ">"]),
    variable=st.sampled_from(["python_version", "python_full_version"]),
    minor=st.integers(8, 14),
)
def test_a_package_of_any_python_counts(
    tmp_path_factory: pytest.TempPathFactory, operator: str, variable: str, minor: int
) -> None:
    """`mlship fits` may run on another Python than the image."""
    assume((operator, minor) not in (("<", 8), (">", 14)))
    path = tmp_path_factory.mktemp("lock") / "r.txt"
    number = f"3.{minor}" if variable == "python_version" else f"3.{minor}.0"
    path.write_text(f"numpy==1.26.4\ntensorflow==2.10.1; {variable} {operator} '{number}'\n")
    found = read_foreign_lock(path, "linux/amd64")
    assert [pin.name for pin in found.pins] == ["numpy", "tensorflow"]


HERE, ELSEWHERE = "sys_platform == 'linux'", "sys_platform == 'win32'"
EDGES = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 6), st.sampled_from(["", HERE, ELSEWHERE]), st.sampled_from("dox")),
    max_size=14,
)


def uv_lock(edges: list[tuple[int, int, str, str]], project: str) -> str:
    """A lock of seven packages, the first is the project; each edge is a dependency, in one of three tables."""
    text = "version = 1\n"
    for number in range(7):
        text += f'\n[[package]]\nname = "p{number}"\nversion = "1.{number}"\n'
        text += f"source = {{ {project} }}\n" if number == 0 else 'source = { registry = "https://x/simple" }\n'
        own = [edge for edge in edges if edge[0] == number]
        for kind, key in (
            ("d", "dependencies = "),
            ("o", "optional-dependencies = { more = "),
            ("x", "dev-dependencies = { dev = "),
        ):
            rows = [
                f'{{ name = "p{to}"{f", marker = {chr(34)}{marker}{chr(34)}" * bool(marker)} }}'
                for _, to, marker, of in own
                if of == kind
            ]
            text += f"{key}[{', '.join(rows)}]{' }' * (kind != 'd')}\n"
    return text


@pytest.mark.parametrize(
    ("marker", "installed"), [("extra == 'gpu'", True), (f"extra == 'gpu' and {ELSEWHERE}", False)]
)
@pytest.mark.parametrize(
    "row", ['{name}markers = "{marker}"\n', '{name}marker = "{marker}"\n', '{name}markers = {{ main = "{marker}" }}\n']
)
def test_packages_of_extras_count(tmp_path: Path, row: str, marker: str, installed: bool) -> None:
    text = row.format(name='[[package]]\nname = "torch"\nversion = "2.8.0"\n', marker=marker)
    assert versions(read(tmp_path, f'[[package]]\nname = "numpy"\nversion = "2.0"\n{text}')) == {
        "numpy": "2.0",
        **({"torch": "2.8.0"} if installed else {}),
    }


@given(EDGES, st.sampled_from(['editable = "."', 'virtual = "."']))
def test_a_package_that_only_another_system_requires_is_not_installed(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int, str, str]], project: str
) -> None:
    reached, before = {0}, set[int]()
    while reached != before:
        before = set(reached)
        reached |= {to for start, to, marker, _ in edges if start in reached and marker != ELSEWHERE}
    lock = read(tmp_path_factory.mktemp("uv"), uv_lock(edges, project))
    assert set(versions(lock)) == {f"p{number}" for number in reached}


def test_the_requirements_of_a_script_are_where_its_lock_begins(tmp_path: Path) -> None:
    manifest = f'[manifest]\nrequirements = [{{ name = "p1" }}, {{ name = "p2", marker = "{ELSEWHERE}" }}]\n'
    text = uv_lock([(1, 3, "", "d")], 'registry = "https://x/simple"')
    assert set(versions(read(tmp_path, manifest + text.removeprefix("version = 1\n")))) == {"p1", "p3"}


def test_a_lock_that_names_no_project_is_installed_whole(tmp_path: Path) -> None:
    lock = read(tmp_path, uv_lock([(1, 2, ELSEWHERE, "d")], 'registry = "https://x/simple"'))
    assert len(lock.pins) == 7


@pytest.mark.parametrize(
    ("head", "pins", "loose"),
    [
        ('requires-python = ">=3.10.4,<3.13"\n', ["2.4.0"], ()),
        ('requires-python = ">=3.8"\n', [], ("torch 1.13.0 or 2.4.0",)),
        ('requires-python = "nonsense"\n', [], ("torch 1.13.0 or 2.4.0",)),
        ("", [], ("torch 1.13.0 or 2.4.0",)),
    ],
)
def test_the_pythons_of_a_lock_decide_a_fork(
    tmp_path: Path, head: str, pins: list[str], loose: tuple[str, ...]
) -> None:
    forks = (("1.13.0", "python_full_version < '3.9'"), ("2.4.0", "python_full_version >= '3.9'"))
    packages = "".join(
        f'\n[[package]]\nname = "torch"\nversion = "{version}"\nresolution-markers = ["{marker}"]\n'
        for version, marker in forks
    )
    path = tmp_path / "uv.lock"
    path.write_text(f"version = 1\n{head}{packages}")
    found = read_foreign_lock(path, "linux/amd64")
    assert ([pin.version for pin in found.pins], found.loose) == (pins, loose)


def test_two_versions_on_one_platform_are_none(tmp_path: Path) -> None:
    text = '[[package]]\nname = "torch"\nversion = "2.8.0"\n[[package]]\nname = "torch"\nversion = "2.8.0+cpu"\n'
    lock = read(tmp_path, text)
    assert (lock.pins, lock.loose) == ((), ("torch 2.8.0 or 2.8.0+cpu",))


def test_entries_without_a_version_are_named(tmp_path: Path) -> None:
    text = "--index-url https://x/simple\ntorch>=2\nnumpy==2.*\nours @ file:///src/ours\n-e ./here\n-r more.txt\nb==1\n"
    lock = read(tmp_path, text)
    assert versions(lock) == {"b": "1"}
    assert lock.loose == ("-e ./here", "-r more.txt", "numpy", "ours", "torch")


def test_the_address_of_a_wheel_is_a_version_where_its_marker_holds(tmp_path: Path) -> None:
    wheels = [f"https://x/v1/kernels-0.1.7+cu121-cp310-cp310-{system}.whl" for system in ("linux_x86_64", "win_amd64")]
    text = f'{wheels[0]}; sys_platform == "linux"\n{wheels[1].replace("0.1.7", "0.1.8")}; sys_platform == "win32"\n'
    assert versions(read(tmp_path, text)) == {"kernels": "0.1.7+cu121"}


def test_what_powershell_writes_is_read(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes("torch==2.8.0\r\nnumpy==2.1.0\r\n".encode("utf-16"))
    assert versions(read_foreign_lock(tmp_path / "lock", "linux/amd64")) == {"numpy": "2.1.0", "torch": "2.8.0"}


@pytest.mark.parametrize("line", ["root:x:0:0:root", "beautifulsoup4   4.7.0", "Some words.", "a==1 b==2"])
def test_a_line_that_is_no_requirement_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match="line 3 is no requirement"):
        read(tmp_path, f"torch==2.8.0 \\\n    --hash=sha256:{'0' * 64}\n{line}\n")


@pytest.mark.parametrize("key", ["package", "packages"])
@pytest.mark.parametrize("table", ["tool.poetry", "tool.setuptools", "project"])
def test_a_key_in_a_table_makes_no_lock(tmp_path: Path, key: str, table: str) -> None:
    with pytest.raises(UsageError, match="line 1 is no requirement") as caught:
        read(tmp_path, f'[{table}]\nname = "x"\n{key} = [{{include = "x"}}]\n')
    assert "`uv lock`" in str(caught.value.hint)


@pytest.mark.parametrize("row", [{"version": "1.0"}, {"name": None}, {"name": ""}, {}])
def test_a_row_without_a_name_is_shown_as_one(tmp_path: Path, row: dict[str, str | None]) -> None:
    lock = read(tmp_path, json.dumps([{"name": "torch", "version": "2.8.0"}, row]))
    assert (versions(lock), lock.loose) == ({"torch": "2.8.0"}, ("(no name)",))


@pytest.mark.parametrize(
    "line", ["git+https://x/y.git@main", "./wheels/a-1.zip", "../ours", "a.tar.gz", ".", ".[ci]", "..[a,b]"]
)
def test_a_package_by_its_place_is_loose(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"{line}\n").loose == (line,)


@pytest.mark.parametrize(
    "line", ["-e git+https://x/y@1#egg=a", "git+https://x/y.git#subdirectory=b&egg=a", "../y#egg=a[b]"]
)
def test_a_package_by_its_place_may_have_a_name(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"{line}\n").loose == ("a",)


def test_the_settings_of_a_project_are_no_lock(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, '[project]\nname = "a"\ndependencies = ["torch==2.8.0"]\n')
    assert "`uv lock`, then run `mlship fits uv.lock`" in (caught.value.hint or "")


def test_a_semicolon_without_a_marker_is_nothing(tmp_path: Path) -> None:
    assert versions(read(tmp_path, "torch==2.3.1+cu118;\na==1 ; \n")) == {"a": "1", "torch": "2.3.1+cu118"}


def test_constraints_install_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "-c limits.txt\na==1\n").loose == ()


@pytest.mark.parametrize(
    ("text", "pins", "apart"),
    [
        ("torch @ https://x/torch-2.3.1%2Bcu121-cp310-cp310-linux_x86_64.whl#a=0\n", {"torch": "2.3.1+cu121"}, ()),
        ("./wheels/torch-2.3.1+cu121-cp310-cp310-linux_x86_64.whl\n", {"torch": "2.3.1+cu121"}, ()),
        ("Package    Version Editable project location\n---------- ------- ----\ntorch 2.8.0\na 1 /src\n",
         {"torch": "2.8.0", "a": "1"}, ()),
        (f"{EXPORT}cuda-nvcc=12.1.105=0\ntorch=2.8.0=pypi_0\n", {"torch": "2.8.0"}, ("cuda-nvcc 12.1.105",)),
        (f"{EXPORT}@EXPLICIT\nhttps://x/linux-64/ld_impl_linux-64-2.40-h5_1.conda\n", {}, ("ld_impl_linux-64 2.40",)),
    ],
    ids=["url", "path", "pip list", "conda list --export", "conda list --explicit"],
)  # fmt: skip
def test_other_ways_to_list_packages(tmp_path: Path, text: str, pins: dict[str, str], apart: tuple[str, ...]) -> None:
    lock = read(tmp_path, text)
    assert (versions(lock), lock.foreign, lock.loose) == (pins, apart, ())


def test_packages_of_conda_are_apart(tmp_path: Path) -> None:
    lock = read(tmp_path, f"{CONDA}pytorch 2.5.1 py3.11_cuda12.4_0 pytorch\na 1 pypi_0 pypi\n")
    assert (versions(lock), lock.foreign) == ({"a": "1"}, ("pytorch 2.5.1",))


def test_an_environment_is_read_from_its_folder(tmp_path: Path) -> None:
    info = tmp_path / "lib/python3.11/site-packages/Torch-2.8.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Torch\nVersion: 2.8.0+cu128\n")
    assert versions(read_foreign_lock(tmp_path, "linux/amd64")) == {"torch": "2.8.0+cu128"}


@pytest.mark.parametrize("content", [b"", b"\xff\x00\x80", b"{", b"[[package]]\nname = ", b'{"default": 3}'])
def test_what_is_no_lock_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_foreign_lock(tmp_path / "lock", "linux/amd64")
    assert "uv.lock" in (refused.value.hint or "")
