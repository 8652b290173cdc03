"""The programs of the build, on a folder instead of an image: layout, overlaps, byte code, what is left out."""

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.image.inside import base, bytecode, check
from mlship.known_texts import first_match

install = sys.modules["install"]  # as the programs find it in a build, beside them: another than mlship's


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment to install into."""
    monkeypatch.setattr(install, "VENV", tmp_path / "opt/venv")
    for program in (install, bytecode):
        monkeypatch.setattr(program, "CACHE", str(tmp_path / "cache"))
    found: Path = install.site_packages()
    found.mkdir(parents=True)
    return found


def wheel(site: Path, name: str, files: dict[str, str], *, spoil: tuple[str, ...] = ()) -> None:
    """What an installer leaves of a wheel; files of `spoil` are another package's already."""
    info = f"{name}-1.0.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\n",
        f"{info}/uv_cache.json": "{}",
        **files,
    }
    lines = []
    for path, text in texts.items():
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text() if path in spoil else None
        file.write_text(text)
        shown = f'"{path}"' if "," in path else path
        lines.append(f"{shown},{install.hash_of(file)},{len(text)}")
        if before is not None:
            file.write_text(before)
    (site / info / "RECORD").write_text("\n".join([*lines, f"{info}/RECORD,,"]) + "\n")


def lay_out(site: Path, tmp_path: Path, layers: dict[str, list[str]]) -> Path:
    target = tmp_path / "layers/light"
    install.split(layers, install.installed(), target)
    install.settle(target.parent)
    return target


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_packages_are_installed_into_an_environment(site: Path, tmp_path: Path) -> None:
    """With uv's options, into what `python -m venv` writes, too."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "layers.json").write_text('{"one": []}')
    (folder / "requirements.txt").write_text("a==1 \\\n    --hash=sha256:1\nb==1 --hash=sha256:2\n")
    seen = tmp_path / "seen"
    program = f"""
import sys, pathlib
venv = pathlib.Path({str(install.VENV)!r})
names = ("bin/python", "bin/python3", f"bin/python3.{{sys.version_info.minor}}")
assert all((venv / name).readlink() == pathlib.Path("/usr/local/bin/python") for name in names)
version = ".".join(map(str, sys.version_info[:3]))
settings = f"home = /usr/local/bin\\ninclude-system-site-packages = false\\nversion = {{version}}\\n"
assert (venv / "pyvenv.cfg").read_text() == settings
assert (venv / "lib64").resolve() == (venv / "lib").resolve()
pathlib.Path({str(seen)!r}).write_text(" ".join(sys.argv[1:]) + "|" + sys.stdin.read())
"""
    assert install.main([str(folder), str(tmp_path / "layers/light"), sys.executable, "-c", program]) == 0
    assert seen.read_text() == "--requirement -|a==1     --hash=sha256:1\nb==1 --hash=sha256:2"


INSTALLER = """
import json, pathlib, sys
calls, asked = pathlib.Path(sys.argv[1]), sys.stdin.read().splitlines()
offline = "--offline" in sys.argv
with calls.open("a") as file:
    file.write(json.dumps([offline, asked]) + "\\n")
sys.exit(offline and "cleaned" in sys.argv)
"""
PINS = st.lists(st.sampled_from([f"{name}=={number}" for name in "abc" for number in (1, 2)]), unique=True)


@pytest.mark.slow
@settings(max_examples=15)
@given(before=PINS, after=PINS, cleaned=st.booleans())
def test_the_index_is_asked_only_for_new_pins(before: list[str], after: list[str], cleaned: bool) -> None:
    """All of them, in one call or two, and again if what the installer kept is gone."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(install, "CACHE", f"{folder}/cache")
        program = [sys.executable, "-c", INSTALLER, f"{folder}/calls"]
        assert install.add(program, "\n".join(before)) == 0
        Path(folder, "calls").unlink(missing_ok=True)
        assert install.add([*program, *(["cleaned"] if cleaned else [])], "\n".join(after)) == 0
        calls = Path(folder, "calls")
        found = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
    known = [pin for pin in after if pin in before]
    rest = after if cleaned else [pin for pin in after if pin not in before]
    assert found == [[offline, pins] for offline, pins in ((True, known), (False, rest)) if pins]


def test_pins_that_could_not_be_installed_are_asked_for_again(site: Path, tmp_path: Path) -> None:
    fails = [sys.executable, "-c", "raise SystemExit(3)"]
    assert install.add(fails, "a==1") == 3
    works = [sys.executable, "-c", INSTALLER, str(tmp_path / "calls")]
    assert install.add(works, "a==1") == 0
    assert (tmp_path / "calls").read_text() == '[false, ["a==1"]]\n'


def test_each_package_goes_to_its_layer_and_namespaces_are_shared(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"space/a.py": "A = 1\n", "../../../bin/a": "#!\n"})
    wheel(site, "b", {"space/b.py": "B = 1\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"], "two": ["b"]})
    root = str(site.relative_to("/"))
    assert f"{root}/space/a.py" in below(layers / "one")
    assert f"{(tmp_path / 'opt/venv/bin/a').relative_to('/')}" in below(layers / "one")
    assert f"{root}/space/b.py" in below(layers / "two")
    assert not any("uv_cache" in path for path in below(layers / "one"))
    assert below(tmp_path / "layers/metadata") == {
        f"{name}-1.0.dist-info/{file}" for name in "ab" for file in ("METADATA", "WHEEL")
    }


def test_vendored_packages_are_distinguished_from_their_carriers(site: Path, tmp_path: Path) -> None:
    vendored = {"a/_vendor/b-1.0.dist-info/METADATA": "Name: b\n", "a/_vendor/b-1.0.dist-info/REQUESTED": ""}
    wheel(site, "a", {"a/__init__.py": "", **vendored})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    root = layers / "one" / site.relative_to("/")
    assert set(vendored) <= below(root)
    assert "a/_vendor/b-1.0.dist-info/REQUESTED" in (root / "a-1.0.dist-info/RECORD").read_text()
    assert {path.name for path in (tmp_path / "layers/metadata").iterdir()} == {"a-1.0.dist-info"}


def test_a_pin_for_another_platform_has_an_empty_layer(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a.py": ""})
    layers = lay_out(site, tmp_path, {"one": ["a"], "elsewhere": ["pywin32"]})
    assert below(layers / "elsewhere") == set()


def test_times_and_modes_are_always_the_same(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a.py": "", "tool": "x"})
    (site / "tool").chmod(0o777)
    (site / "a.py").chmod(0o600)
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    found = {path.name: path.stat() for path in layers.rglob("*")}
    assert {int(stat.st_mtime) for stat in found.values()} == {install.EPOCH}
    assert (oct(found["tool"].st_mode)[-3:], oct(found["a.py"].st_mode)[-3:]) == ("755", "644")


def test_of_one_file_of_two_packages_the_last_by_name_has_it(site: Path, tmp_path: Path) -> None:
    wheel(site, "b", {"shared.py": "FROM = 'b'\n", "same.py": ""})
    wheel(site, "a", {"shared.py": "FROM = 'a'\n", "same.py": ""})
    assert install.overwritten(dict(install.installed())) == ["b"]
    wheel(site, "b", {"shared.py": "FROM = 'b'\n", "same.py": ""})  # as --reinstall-package does
    assert install.overwritten(dict(install.installed())) == []
    layers = lay_out(site, tmp_path, {"one": ["a"], "two": ["b"]})
    root = layers / "two" / site.relative_to("/")
    assert (root / "shared.py").read_text() == "FROM = 'b'\n"
    assert not (layers / "one" / site.relative_to("/") / "same.py").exists()


def test_names_and_paths_that_lead_outside_are_not_followed(site: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    wheel(site, "a", {"a.py": ""})
    record = site / "a-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + "../../../../../victim,,\n" + f"{victim},,\n")
    lay_out(site, tmp_path, {"one": ["a"]})
    assert victim.read_text() == "mine"


@given(st.text("ABcd.-_", max_size=10))
def test_names_are_those_of_packaging(name: str) -> None:
    from packaging.utils import canonicalize_name

    if name.strip("-_."):
        assert install.canonical(name) == canonicalize_name(name).strip("-")


def compiled(layers: Path, folder: Path, **files: object) -> None:
    for name, value in {"layers": {"one": ["a"]}, "prune": {"kinds": [], "keep": []}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    assert bytecode.main(["packages", str(folder), str(layers)]) == 0


def pyc(layers: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in layers.rglob("*.pyc")}


def test_only_what_was_imported_is_compiled(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a/__init__.py": "", "a/used.py": "X = 1\n", "a/unused.py": "Y = 1\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path, modules={"a": {"a": "__init__ used"}, "b": {"b": "other"}})
    assert pyc(layers) == {"__init__", "used"}


def test_without_a_trace_everything_is_compiled_that_is_python(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a/__init__.py": "", "a/other.py": "Y = 1\n", "a/template.py": "{{ no python }}\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path)
    assert pyc(layers) == {"__init__", "other"}


def test_byte_code_is_never_checked_and_knows_its_place(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a.py": "def f(): raise ValueError\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path)
    (file,) = layers.rglob("*.pyc")
    assert file.read_bytes()[4:8] == b"\x01\x00\x00\x00"
    assert f"{site}/a.py".encode() in file.read_bytes()
    assert int(file.stat().st_mtime) == install.EPOCH


def test_byte_code_from_the_cache_is_the_same(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a.py": "X = {'b', 'c', 'd'}\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path)
    (file,) = layers.rglob("*.pyc")
    first = file.read_bytes()
    file.unlink()
    compiled(layers, tmp_path)
    assert file.read_bytes() == first


def test_another_build_may_compile_the_same_module_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its container shares the cache, and numbers its processes alike."""
    (tmp_path / "a.py").write_text("X = 1\n")
    job, other = ((str(tmp_path / "a.py"), str(tmp_path / name), "/a.py", str(tmp_path / "key")) for name in "ab")
    copy = shutil.copyfile

    def slow(source: str, target: str) -> None:
        monkeypatch.setattr(shutil, "copyfile", copy)
        bytecode.compile_one(other)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slow)
    bytecode.compile_one(job)
    assert {(tmp_path / name).read_bytes() for name in ("a", "b")} == {(tmp_path / "key").read_bytes()}
    assert below(tmp_path) == {"a.py", "a", "b", "key"}


def test_what_the_cache_lacks_is_compiled_whether_few_or_many(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(site, "a", {f"a/m{number}.py": f"X = {{'{number}', 'b', 'c'}}\n" for number in range(300)})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    found = []
    for cache, already in (("many", 0), ("few", 250), ("few", 300), ("most", 20)):
        monkeypatch.setattr(bytecode, "CACHE", str(tmp_path / cache))
        traced = " ".join(f"m{number}" for number in range(already))
        compiled(layers, tmp_path, modules={"a": {"a": traced}})
        compiled(layers, tmp_path, modules={"a": {"a": " ".join(f"m{number}" for number in range(300))}})
        found.append({path.name: path.read_bytes() for path in layers.rglob("*.pyc")})
        for path in layers.rglob("*.pyc"):
            path.unlink()
    assert len(found[0]) == 300
    assert found[1:] == found[:1] * 3


def test_packages_are_installed_and_compiled_in_one_process(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", {"a/__init__.py": "X = 1\n", "a/tests/test_a.py": ""})
    folder = tmp_path / "packages"
    folder.mkdir()
    files = {"layers": {"one": ["a"]}, "prune": {"kinds": ["tests"], "keep": []}, "modules": {"a": {"a": "__init__"}}}
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "requirements.txt").write_text("a==1.0\n")
    layers = tmp_path / "layers/light"
    program = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1] != '--requirement')"]
    assert bytecode.main(["packages", str(folder), str(layers), str(folder), *program]) == 0
    assert pyc(layers) == {"__init__"}
    assert not any("tests" in path for path in below(layers))
    times = {int(path.lstat().st_mtime) for path in (tmp_path / "layers").rglob("*")}
    assert times == {install.EPOCH}, "also those of the metadata"


def test_an_installer_that_fails_ends_the_step(site: Path, tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text("{}")
    (tmp_path / "requirements.txt").write_text("a==1.0\n")
    program = [sys.executable, "-c", "raise SystemExit(3)"]
    assert bytecode.main(["packages", str(tmp_path), str(tmp_path / "layers/light"), str(tmp_path), *program]) == 3
    assert not (tmp_path / "layers/light").exists()


TESTED = {
    "a/__init__.py": "",
    "a/tests/__init__.py": "",
    "a/tests/data.bin": "x" * 100,
    "a/testing.py": "",
    "a/include/a.h": "h",
    "a/lib.a": "!<arch>",
    "a/tests/odd, name": "",
    "b/tests/helper.py": "",
    "b/tests/deep/more.py": "",
}


def test_unused_files_are_left_out_and_recorded(site: Path, tmp_path: Path) -> None:
    wheel(site, "a", TESTED)
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    prune = {"kinds": ["tests", "headers", "archives"], "keep": []}
    compiled(layers, tmp_path, prune=prune, modules={"a": {"a": "__init__", "b/tests": "helper"}})
    root = layers / "one" / site.relative_to("/")
    kept = {path for path in below(root) if "dist-info" not in path and "__pycache__" not in path}
    assert kept == {"a/__init__.py", "a/testing.py", "b/tests/helper.py", "b/tests/deep/more.py"}
    assert not (root / "a/tests").exists()
    note = json.loads((layers / "one/opt/venv/share/mlship/light-one.json").read_text())
    assert note == {
        "pruned": {
            "archives": {"bytes": 7, "files": 1},
            "headers": {"bytes": 1, "files": 1},
            "tests": {"bytes": 100, "files": 3},
        }
    }
    recorded = {str(path) for path in PathDistribution(root / "a-1.0.dist-info").files or ()}
    assert {path for path in recorded if not (root / path).exists()} == {"a-1.0.dist-info/RECORD"} - recorded


@pytest.mark.parametrize(
    ("module", "code", "stays"),
    [
        ("a/data.py", 'DATA = os.path.join(HERE, "tests", "iris.csv")', True),
        ("a/data.py", 'DATA = HERE + "/tests/iris.csv"', True),
        ("a/deep/data.py", 'files("a.tests")', True),
        ("a/data.py", "def lazy():\n    from a.tests import support", True),
        ("a/data.py", "def lazy():\n    from . import tests", True),
        ("a/data.py", "from a import (  # (the data)\n    other,\n    tests,\n)", True),
        ("a/data.py", "from a import \\\n    tests", True),
        ("a/data.py", "import os, a.tests as data", True),
        ("a/data.py", 'DATA = f"{HERE}tests/iris.csv"', True),
        ("a/data.py", 'DATA = "a\\x2ftests/iris.csv"', True),
        ("a/data.py", 'DATA = """\\\ntests/iris.csv"""', True),
        ("a/data.py", 'DATA = HERE + """\\\\tests\n"""', True),
        ("a/data.py", 'DATA = ("tests/iris.csv"', True),
        ("a/data.py", "tests = [run]", False),
        ("a/data.py", '"""Run the tests with pytest."""', False),
        ("a/data.py", 'print("all tests passed")', False),
        ("a/tests/test_data.py", 'DATA = "tests/iris.csv"', False),
        ("b/data.py", 'DATA = "tests/iris.csv"', False),
    ],
)
def test_tests_that_the_packages_own_code_names_stay(
    site: Path, tmp_path: Path, module: str, code: str, stays: bool
) -> None:
    wheel(site, "a", {"a/__init__.py": "", "a/tests/iris.csv": "1,2\n", "b/__init__.py": "", module: f"{code}\n"})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path, prune={"kinds": ["tests"], "keep": []}, modules={"a": {"a": "__init__"}})
    assert (layers / "one" / site.relative_to("/") / "a/tests/iris.csv").exists() is stays


def test_tests_that_a_wheel_ships_beside_its_package_belong_to_no_package(site: Path, tmp_path: Path) -> None:
    code = 'DATA = "tests/iris.csv"\n'
    wheel(site, "a", {"a/__init__.py": code, "tests/iris.csv": "1,2\n", "tests/a.py": code, "tests/a/tests/x.csv": ""})
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    compiled(layers, tmp_path, prune={"kinds": ["tests"], "keep": []}, modules={"a": {"a": "__init__"}})
    assert not (layers / "one" / site.relative_to("/") / "tests").exists()


@pytest.mark.parametrize(
    ("keep", "kept"), [(["*"], set(TESTED)), (["a/tests/*"], set(TESTED) - {"a/include/a.h", "a/lib.a"})]
)
def test_what_is_asked_for_is_kept(site: Path, tmp_path: Path, keep: list[str], kept: set[str]) -> None:
    wheel(site, "a", TESTED)
    layers = lay_out(site, tmp_path, {"one": ["a"]})
    prune = {"kinds": ["tests", "headers", "archives"], "keep": keep}
    compiled(layers, tmp_path, prune=prune, modules={"a": {"b/tests": "helper"}})
    root = layers / "one" / site.relative_to("/")
    assert {path for path in below(root) if "dist-info" not in path and "__pycache__" not in path} == kept


def test_python_itself_is_compiled_where_the_base_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib/python3"
    for name in ("os.py", "json/__init__.py", "test/big.py", "unused.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("X = 1\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(library))
    jobs = list(bytecode.python_jobs({".": "gone os", "json": "__init__"}, tmp_path / "out"))
    assert [Path(source).name for source, *_ in jobs] == ["os.py", "__init__.py"]
    assert all(Path(target).is_relative_to(tmp_path / "out") for _, target, _ in jobs)
    everything = {Path(source).name for source, *_ in bytecode.python_jobs(None, tmp_path / "out")}
    assert everything == {"os.py", "__init__.py", "unused.py"}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the step that copies the code."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_code_is_compiled_for_its_place_and_made_read_only(site: Path, repository: Path, tmp_path: Path) -> None:
    files = {"serving/model.py": "X = 1\n", "broken.py": "def (\n", "run.sh": "true\n"}
    for name, text in {**files, "serving/__pycache__/gone.cpython-311.pyc": "old"}.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    (repository / "__pycache__").symlink_to(tmp_path)
    (repository / "run.sh").chmod(0o766)
    (repository / "dangling.py").symlink_to("nowhere.py")
    (repository / "folder.py").mkdir()
    code = tmp_path / "code"
    assert bytecode.main(["code", str(repository), str(code), "/app", "."]) == 0
    byte_code = code / f"app/serving/__pycache__/model.{sys.implementation.cache_tag}.pyc"
    assert b"/app/serving/model.py" in byte_code.read_bytes()
    assert str(tmp_path).encode() not in byte_code.read_bytes()
    assert byte_code.read_bytes()[4:8] == (1).to_bytes(4, "little"), "by hash, unchecked"
    assert list(code.rglob("*.pyc")) == [byte_code]
    assert tmp_path.is_dir(), "a link's target stays"
    assert (code / "app/dangling.py").readlink() == Path("nowhere.py")
    found = {str(path.relative_to(code / "app")): path.lstat() for path in code.rglob("*") if not path.is_symlink()}
    assert {one.st_mtime for one in found.values()} == {install.EPOCH}
    assert {name for name, one in found.items() if one.st_mode & 0o022} == set()
    assert {name: found[name].st_mode & 0o777 for name in files} == {**dict.fromkeys(files, 0o644), "run.sh": 0o755}


def test_code_is_copied_without_the_model(site: Path, repository: Path, tmp_path: Path) -> None:
    for name in ("m/weights.bin", "m/labels.txt", "m/deep/more.bin", "real/one.txt", "real/two.txt", "a b.txt"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(name)
    (repository / "link").symlink_to("real")
    (repository / "m/linked.bin").symlink_to("labels.txt")
    (repository / "m/linked").symlink_to("deep")
    os.mkfifo(repository / "m/pipe")
    without = ("m/weights.bin", "m/deep/more.bin", "m/linked.bin", "link/one.txt", "real/two.txt")
    paths = ("m", "link", "a b.txt", "real", "real/two.txt", "m")
    assert bytecode.main(["code", ".", str(tmp_path / "code"), "/", *paths, "--without", *without]) == 0
    kept = {"m/labels.txt", "m/linked", "m/pipe", "a b.txt", "link/two.txt", "real/one.txt"}
    assert below(tmp_path / "code") | {"m/linked"} == kept
    assert (tmp_path / "code/link").is_dir(), "as COPY does: what a named link leads to"
    assert (tmp_path / "code/m/linked").readlink() == Path("deep")
    assert (repository / "m/weights.bin").exists()


def test_what_is_not_in_the_context_is_named(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        bytecode.main(["code", ".", str(tmp_path / "code"), "/", "venv"])
    match = first_match(str(caught.value), "build")
    assert match is not None
    assert match.as_error().message == "`venv` does not exist, or .dockerignore excludes it"


@pytest.mark.slow
@settings(max_examples=25)
@given(
    files=st.sets(st.text("ab -é", min_size=1, max_size=2).map(lambda n: f"d/{n}/f"), max_size=6),
    gone=st.sets(st.integers(0, 5)),
)
def test_every_other_file_is_copied(files: set[str], gone: set[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("code")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "d").mkdir(exist_ok=True)
    without = [name for number, name in enumerate(sorted(files)) if number in gone]
    bytecode.copy_code(folder, folder / "out", ["d", "--without", *without])
    assert below(folder / "out") == files - set(without)


@pytest.mark.parametrize(
    ("libc", "version", "said"),
    [
        ("glibc 2.36", "{}.{}".format(*sys.version_info), None),
        ("glibc 2.36", "2.7", "; the lock needs Python 2.7 on glibc"),
        (None, "{}.{}".format(*sys.version_info), " on musl; the lock needs Python"),
        (ValueError("unrecognized configuration name"), "{}.{}".format(*sys.version_info), " on musl; the lock needs"),
    ],
)
def test_another_base_image_than_the_locks_is_refused(
    libc: str | ValueError | None,
    version: str,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def confstr(name: str) -> str | None:
        assert name == "CS_GNU_LIBC_VERSION"
        if isinstance(libc, ValueError):
            raise libc
        return libc

    monkeypatch.setattr(os, "confstr", confstr)
    assert base.main([version]) == (1 if said else 0)
    error = capsys.readouterr().err
    assert (said in error and error.startswith("mlship: the base image has Python ")) if said else error == ""


def test_the_packages_of_all_groups_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pins = [{"name": name, "version": "1.0", "marker": None} for name in ("a", "b")]
    (tmp_path / "pins.json").write_text(json.dumps(pins))
    for group, name in (("light", "a"), ("heavy", "b")):
        metadata = tmp_path / group / f"{name}-1.0.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Name: {name}\nVersion: 1.0\n")
    arguments = [str(tmp_path / name) for name in ("pins.json", "light", "heavy")]
    assert check.main(arguments) == 0
    assert check.main(arguments[:2]) == 1
    assert capsys.readouterr().err == "mlship: b 1.0 is locked but not installed\n"


def test_an_environment_without_packages_ships(site: Path, tmp_path: Path) -> None:
    target = tmp_path / "layers/python"
    (tmp_path / "modules.json").write_text("{}")
    assert bytecode.main(["python", str(tmp_path), str(target)]) == 0
    assert below(Path(f"{target}{install.VENV}")) >= {"pyvenv.cfg", "bin/python"}
    assert {path.lstat().st_mtime for path in target.rglob("*")} == {install.EPOCH}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a": ["1.0"]}, []),
        ({"a": ["1.0.0"]}, []),
        ({}, ["a 1.0 is locked but not installed"]),
        ({"a": ["1.1"]}, ["a 1.0 is locked, but 1.1 is installed"]),
        ({"a": ["1.0", "1.0"]}, ["a 1.0 is locked, but 1.0, 1.0 is installed"]),
        ({"a": ["1.0"], "b": ["2"]}, ["b 2 is installed but not locked"]),
    ],
)
def test_what_is_installed_is_what_is_locked(found: dict[str, list[str]], said: list[str]) -> None:
    assert list(check.differences({"a": "1.0"}, found)) == said


def test_pins_for_others_are_not_missed() -> None:
    assert check.applies(None)
    assert check.applies("python_version >= '3.8'")
    assert not check.applies("sys_platform == 'win32'")
