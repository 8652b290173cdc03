"""mlship.yaml: every refusal names line, key and what was meant; no text whatever makes a traceback."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project.config import Config, config_schema
from mlship.project.load import load_config, load_unfinished, parse_config

GOOD = """\
name: digits
model:
  load: serving.model:load
  weights: [model.onnx]
  sample: sample.json
serve:
  command: [uvicorn, "serving.app:app"]
source: [serving]
"""


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_config(text)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message


def test_defaults_are_the_one_good_way() -> None:
    config = parse_config(GOOD)
    assert (config.python, config.base.distro, config.platform) == ("3.11", "bookworm", "linux/amd64")
    assert config.requirements.lock == "requirements.txt"


def test_python_may_stand_without_quotes() -> None:
    assert parse_config(GOOD + "python: 3.13\n").python == "3.13"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name: digits", "name: Digits"), "line 1: name: 'Digits' is not an image name"),
        (("name: digits", 'name: "$(id)"'), "line 1: name: '$(id)' is not an image name"),
        (("name: digits", 'name: "{{x}}"'), "not an image name"),
        (("name: digits", 'name: "a\\nb"'), "not an image name"),
        (("weights:", "weigths:"), "line 4: model.weigths: unknown key; did you mean `weights`?"),
        (("weights: [model.onnx]", "weights: model.onnx"), "line 4: model.weights: must be a list"),
        (
            ("weights: [model.onnx]", "weights: [../secret]"),
            "line 4: model.weights[0]: '../secret' is not a path inside",
        ),
        (("weights: [model.onnx]", "weights: [/etc/passwd]"), "is not a path inside the repository"),
        (("weights: [model.onnx]", "weights: ['a$b']"), "unsafe in a Dockerfile"),
        (("weights: [model.onnx]", "weights: ['a\"b']"), "unsafe in a Dockerfile"),
        (("weights: [model.onnx]", "weights: ['--from=x']"), "unsafe in a Dockerfile"),
        (("weights: [model.onnx]", "weights: ['*.onnx']"), "unsafe in a Dockerfile"),
        (("load: serving.model:load", "load: serving/model.py"), "package.module:function"),
        (("  sample: sample.json\n", ""), "line 2: model: sample is missing"),
        (("source: [serving]", "source: []"), "line 8: source"),
        (("source: [serving]", "source: [serving]\nsource: [x]"), "line 9: duplicate key source"),
        (("source: [serving]", "source: [serving]\nbase: {distro: alpine}"), "Alpine (musl) is not supported"),
        (("source: [serving]", "source: [serving]\nbase: python:3.11-alpine"), "Alpine (musl) is not supported"),
        (("source: [serving]", "source: [serving]\nbase: {image: 'python:3.11-alpine'}"), "base.image: Alpine (musl)"),
        (
            ("source: [serving]", "source: [serving]\nimage: python:3.11-alpine"),
            "image: Alpine (musl) is not",
        ),
        (("source: [serving]", "source: [serving]\npython: 3.11-alpine"), "python: Alpine (musl) is not supported"),
        (("source: [serving]", "source: [serving]\n1: x"), "line 9: YAML does not read '1' as text"),
        (("source: [serving]", "source: [serving]\nenv: {ON: x}"), "line 9: YAML does not read 'ON' as text"),
        (
            ("source: [serving]", "source: [serving]\nrequirements: {lock: mlship.lock}"),
            "mlship uses itself",
        ),
        (("source: [serving]", "source: [serving]\nbase: {distro: bullseye}"), "'bookworm' or 'trixie'"),
        (("source: [serving]", "source: [serving]\npython: '3.8'"), "line 9: python: must be"),
        (("source: [serving]", "source: [serving]\nenv: {API_KEY: x}"), "looks like a secret"),
        (("source: [serving]", 'source: [serving]\nenv: {A: "x\\ny"}'), "control characters"),
        (("source: [serving]", "source: [serving]\nrequirements: {input: a.txt, lock: a.txt}"), "the same file"),
        (("source: [serving]", "source: [serving]\nrequirements: {lock: 'a,b'}"), "requirements.lock"),
        (
            ("source: [serving]", "source: [serving]\nsystem: {run: ['a; rm -rf /']}"),
            "not a Debian package name",
        ),
        (("source: [serving]", "source: [serving]\nsmoke: {memory: lots}"), "is not a size such as 512m"),
        (("source: [serving]", "source: [serving]\nsmoke: {memory: 1k}"), "is not a valid memory limit"),
        (("source: [serving]", "source: [serving]\nsmoke: {memory: 99999999g}"), "is not a valid memory limit"),
        (("command: [uvicorn", "command: [sh, -c, uvicorn"), "runs a shell"),
        (("command: [uvicorn", "command: [/usr/bin/dash, -c, uvicorn"), "runs a shell"),
        (("command: [uvicorn", "ready: health ready\n  command: [uvicorn"), "is not a URL path"),
        (
            ("source: [serving]", "source: [serving]\nenv: {'A-B': x}"),
            "'A-B' is not a name for an environment variable",
        ),
        (
            ("weights: [model.onnx]", "allow_pickle: [{path: a.pkl, sha255: x}]"),
            "line 4: model.allow_pickle[0].sha255: unknown key; did you mean `sha256`?",
        ),
        (("source: [serving]", "source: [serving]\nenv: 3"), "env: must be a mapping, not 3"),
        (("command: [uvicorn", "port: 80\n  command: [uvicorn"), "serve.port"),
        (("source: [serving]", "source: [serving]\ngpu: {host: h}"), "gpu.host: unknown key; did you mean `hosts`?"),
        (
            ("source: [serving]", "source: [serving]\ngpu: {zzz: 1}"),
            "gpu.zzz: unknown key; valid keys here: hosts, wheel_index, compile, forward_compat",
        ),
        (("source: [serving]", "source: [serving]\ngpu: true"), "gpu: must be a mapping, not True"),
    ],
)
def test_refusals_name_line_key_and_reason(change: tuple[str, str], said: str) -> None:
    assert said in refusal(GOOD.replace(*change))


def test_a_file_that_is_no_mlship_yaml_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "mlship.yaml").write_text(GOOD + "#" * 1_000_000)
    with pytest.raises(UsageError, match="larger than 1 MB"):
        load_config(tmp_path, {})


def test_the_loaders_path_is_refused_for_gpus_only() -> None:
    env = "env: {LD_LIBRARY_PATH: /usr/local/cuda/lib64}\n"
    assert parse_config(GOOD + env).env
    said = refusal(GOOD + env + "gpu: {}\n")
    assert "env.LD_LIBRARY_PATH cannot be set" in said
    assert "it would override the wheels' libraries" in said


def test_everything_wrong_is_said_at_once() -> None:
    message = refusal("nmae: x\nmodel: {load: 1}\n")
    assert [part in message for part in ("did you mean `name`?", "model.load", "serve: is missing")] == [True] * 3


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "[1, 2]", "a: &a [*a]", "a: [b", "? [x]\n: y", "a: !!python/object:os.system x"]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    refusal(text)


def test_a_mirror_may_be_called_so() -> None:
    assert parse_config(GOOD + "base: {mirror: alpine.example.com}\n").base.mirror == "alpine.example.com"


def test_aliases_that_expand_without_end_are_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
    )
    assert "aliases" in refusal(bomb)


def test_missing_file_says_init(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no `mlship\.yaml`") as caught:
        load_config(tmp_path, {})
    assert "mlship init" in caught.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * 1_100_000])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlship.yaml").write_bytes(content)
    with pytest.raises(UsageError):
        load_config(tmp_path, {})


def test_environment_overrides_the_mirror(tmp_path: Path) -> None:
    (tmp_path / "mlship.yaml").write_text(GOOD)
    assert load_config(tmp_path, {"MLSHIP_BASE_MIRROR": "127.0.0.1:5000"}).base.mirror == "127.0.0.1:5000"
    with pytest.raises(UsageError, match="MLSHIP_BASE_MIRROR"):
        load_config(tmp_path, {"MLSHIP_BASE_MIRROR": "no registry"})


def test_schema_knows_every_key() -> None:
    schema = config_schema()
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(Config.model_fields)


_MARKS = [
    "\n",
    "  ",
    "- ",
    ": ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<",
    "!!set ",
    "!!binary ",
    "|\n",
    "# ",
    "~",
    "\0",
]


@given(st.lists(st.sampled_from([*_MARKS, "1", "2020-01-01", "name", "serve", "base", "alpine", ".inf"])).map("".join))
def test_no_yaml_makes_a_traceback(text: str) -> None:
    for document in (text, GOOD + text):
        with suppress(UsageError):
            parse_config(document)


@given(st.text(max_size=300))
def test_no_text_makes_a_traceback(text: str) -> None:
    with suppress(UsageError):
        parse_config(text)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
_values = st.recursive(
    _scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)) | st.text(max_size=10), _values, max_size=6))
def test_no_document_makes_a_traceback(document: dict[str, object]) -> None:
    with suppress(UsageError):
        parse_config(yaml.safe_dump({**yaml.safe_load(GOOD), **document}))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("name: a\n", ("model.load", "model.sample", "serve.command", "source")),
        ("name: a\nmodel: {sample: s.json}\nserve: {port: 8000}\nsource: [a]\n", ("model.load", "serve.command")),
        ("name: a\nmodel: {load: 'a:b', sample: s.json}\nserve: {command: [x]}\nsource: [a]\n", ()),
    ],
)
def test_the_lock_needs_neither_loader_sample_nor_server(tmp_path: Path, text: str, missing: tuple[str, ...]) -> None:
    (tmp_path / "mlship.yaml").write_text(text)
    config, found = load_unfinished(tmp_path, {})
    assert (config.name, config.python, found) == ("a", "3.11", missing)
    if missing:
        with pytest.raises(UsageError, match="is missing"):
            load_config(tmp_path, {})


@pytest.mark.parametrize(
    "text", ["{}", "name: a\nmodel: 3\n", "name: a\nspeed: 1\n", "- a\n", "name: a\nmodel: {load: 7}\n"]
)
def test_anything_else_wrong_is_refused_for_the_lock_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "mlship.yaml").write_text(text)
    with pytest.raises(UsageError):
        load_unfinished(tmp_path, {})
