"""The plan is a value: the same inputs give the same plan, JSON both ways, and the Dockerfile prints it."""

import json
import re
from dataclasses import fields, replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.image.dockerfile import dockerfile, dockerignore, exec_form, quote, titles
from mlship.image.gpu import CudaImage, GpuPlan, Reason
from mlship.image.labels import labels
from mlship.image.plan import BuildPlan, make_plan
from mlship.image.reference import check_reference
from mlship.image.serving import forks
from mlship.lock.check import Lock
from mlship.lock.pins import parse_lock
from mlship.lock.record import LockRecord
from mlship.project.git import Revision, without_credentials
from mlship.project.load import parse_config
from mlship.project.weights import WeightFile

YAML = """\
name: digits
model: {load: "serving.model:load", weights: [weights], sample: sample.json, golden: golden.json}
serve: {command: [uvicorn, "serving.app:app"]}
source: [serving]
"""
DIGEST = f"sha256:{'1' * 64}"
REVISION = Revision("v1.2", "c" * 40, "https://example.com/team/model.git", 1_700_000_000)
PINS = f"numpy==2.4.6 --hash=sha256:{'a' * 64}\n"


def lock() -> Lock:
    record = LockRecord({}, f"sha256:{'2' * 64}", "python:3.11-slim-bookworm", DIGEST, "pip-tools 7")
    return Lock(record, parse_lock(PINS, "requirements.txt"), PINS)


def weight(path: str, size: int = 10) -> WeightFile:
    return WeightFile(path=path, kind="onnx", size=size)


def plan(text: str = YAML, revision: Revision = REVISION, weights: tuple[WeightFile, ...] = ()) -> BuildPlan:
    return make_plan(parse_config(text), lock(), weights, revision, '{"load": "a"}')


def test_same_inputs_same_bytes_and_json_both_ways() -> None:
    one, two = plan(), plan()
    assert one.to_json() == two.to_json()
    assert BuildPlan.from_json(one.to_json()) == one
    assert dockerfile(one) == dockerfile(BuildPlan.from_json(one.to_json()))


def test_the_gpu_part_goes_both_ways_too() -> None:
    image = CudaImage("nvidia/cuda:12.6.3-runtime-ubuntu22.04", DIGEST)
    gpu = GpuPlan(
        "12.6", "image", "cuda>=12.4", image, image, ("flash-attn",), image, "https://x/cu126", ("a",), ("b",)
    )
    whole = replace(plan(), gpu=gpu, reasons=(Reason("cuda", "12.6", "why", ("source",)),))
    assert all(getattr(gpu, field.name) for field in fields(GpuPlan))
    assert BuildPlan.from_json(whole.to_json()) == whole


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 2}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        BuildPlan.from_json(text)


def test_a_newer_plan_is_refused() -> None:
    with pytest.raises(UsageError, match="schema 2"):
        BuildPlan.from_json(plan().to_json().replace('"schema": 1', '"schema": 2'))


def test_version_comes_from_the_config_then_from_git() -> None:
    assert plan().tag == "digits:v1.2"
    assert plan(YAML + "version: 2.0\n".replace("2.0", "'2.0'")).tag == "digits:2.0"
    assert plan(revision=Revision()).tag == "digits:dev"


@pytest.mark.parametrize(
    ("described", "tag"),
    [
        ("v1.0-2-gabc-dirty", "v1.0-2-gabc-dirty"),
        ("v1+cu121", "v1-cu121"),
        ("release/2", "release-2"),
        ("a$(id){{x}}'", "a-id-x-"),
        ("é", "dev"),
        ("v" * 200, "v" * 100),
    ],
)
def test_any_git_tag_becomes_the_tag_of_an_image(described: str, tag: str) -> None:
    made = f"{plan(revision=Revision(describe=described)).tag}"
    assert made.partition(":")[2] == tag
    assert check_reference(made) == made


def test_weights_are_grouped_by_folder() -> None:
    found = plan(weights=(weight("weights/b.onnx"), weight("weights/a.onnx"), weight("top.onnx", 7)))
    assert [(w.folder, w.files, w.size) for w in found.weights] == [
        ("", ("top.onnx",), 7),
        ("weights", ("weights/a.onnx", "weights/b.onnx"), 20),
    ]
    text = dockerfile(found)
    assert 'COPY --link --chmod=0444 ["top.onnx", "/app/"]' in text
    assert 'COPY --link --chmod=0444 ["weights/a.onnx", "weights/b.onnx", "/app/weights/"]' in text


def test_the_order_is_packages_weights_code() -> None:
    text = dockerfile(plan(weights=(weight("m.onnx"),)))
    shipped = text[text.index("AS runtime") :]
    assert shipped.index("/opt/venv /opt/venv") < shipped.index("m.onnx") < shipped.index("--from=source")


def test_rules_that_every_image_satisfies() -> None:
    text = dockerfile(plan())
    assert not re.search(r"(?m)^#\s*syntax=", text)
    froms = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert [name for name in froms if "@sha256:" not in name] == ["scratch", "base", "base", "base", "base"]
    assert not re.search(r"(?m)^(ADD|ARG) ", text)
    assert "USER 1001:1001" in text
    assert "--require-hashes" in text
    assert re.search(r"(?m)^CMD \[", text)
    assert re.search(r"(?m)^HEALTHCHECK", text)


def test_ignore_denies_by_default() -> None:
    lines = [line for line in dockerignore(plan(weights=(weight("m.onnx"),))).splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!requirements.txt", "!serving", "!sample.json", "!golden.json", "!m.onnx",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["uvicorn", "app:app"], False),
        (["uvicorn", "app:app", "--workers", "1"], False),
        (["uvicorn", "app:app", "--workers", "4"], True),
        (["uvicorn", "app:app", "--workers=4"], True),
        (["gunicorn", "app:app"], True),
        (["/opt/venv/bin/gunicorn", "app:app"], True),
        (["python", "-m", "server"], False),
        (["uvicorn", "app:app", "--workers"], False),
    ],
)
def test_which_servers_fork(command: list[str], expected: bool) -> None:
    assert forks(command) is expected


def test_forking_servers_get_tini() -> None:
    found = plan(YAML.replace("uvicorn,", "gunicorn,"))
    assert found.init
    assert "tini" in found.packages.build
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in dockerfile(found)


def test_libraries_that_call_home_are_told_not_to() -> None:
    text = f"onnxruntime-gpu==1.32.0 --hash=sha256:{'a' * 64}\n"
    found = make_plan(parse_config(YAML), Lock(lock().record, parse_lock(text, "l"), text), (), REVISION, "{}")
    assert found.env == {"ORT_DISABLE_TELEMETRY": "1"}
    assert plan().env == {}


def test_labels_leave_out_what_is_not_known() -> None:
    known = labels(parse_config(YAML), "1", lock(), Revision(), "{}")
    assert "org.opencontainers.image.revision" not in known
    assert "org.opencontainers.image.created" not in known
    assert known["org.opencontainers.image.base.digest"] == DIGEST


def test_created_is_the_commits_time() -> None:
    assert plan().labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://user:pass@example.com/a.git", "https://example.com/a.git"),
        ("https://token@example.com/a.git?x=1#y", "https://example.com/a.git"),
        ("git@example.com:team/a.git", "git@example.com:team/a.git"),
        ("ssh://git:pass@example.com/a.git", "ssh://git@example.com/a.git"),
        ("git@example.com:a\nRUN id", "git@example.com:aRUN id"),
        ("/srv/git/a.git", "/srv/git/a.git"),
    ],
)
def test_remotes_lose_their_credentials(remote: str, shown: str) -> None:
    assert without_credentials(remote) == shown


@pytest.mark.parametrize(
    "tag", ["model", "team/model:1.2", "registry.example.com:5000/team/model:v1", "127.0.0.1:5000/m"]
)
def test_names_of_images(tag: str) -> None:
    assert check_reference(tag) == tag


@pytest.mark.parametrize("tag", ["", "Model", "a b", "$(id)", "a:b:c", "-x", "a\n", "a//b", "x" * 300, "m@sha256:1"])
def test_what_is_no_name_of_an_image(tag: str) -> None:
    with pytest.raises(UsageError):
        check_reference(tag)


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=60))
def test_quoting_is_undone_by_the_dockerfile_rules(text: str) -> None:
    """Read back as BuildKit's lexer does: a backslash takes the next character as it is, and a bare $ expands."""
    quoted = quote(text)
    assert re.fullmatch(r'"(?:[^"\\$]|\\.)*"', quoted)
    assert re.sub(r"\\(.)", r"\1", quoted[1:-1]) == text


@given(st.lists(st.text(max_size=20), max_size=5))
def test_exec_form_is_json(words: list[str]) -> None:
    assert json.loads(exec_form(words)) == words
    assert "\n" not in exec_form(words)


def test_a_label_cannot_break_out_of_its_line() -> None:
    text = dockerfile(replace(plan(), labels={"a": 'x" \\ $HOME {{y}} $(id)'}))
    assert r'LABEL "a"="x\" \\ \$HOME {{y}} \$(id)"' in text


def test_source_keeps_its_folders() -> None:
    text = dockerfile(plan(YAML.replace("source: [serving]", 'source: [serving, "lib/deep dir/x.py"]')))
    assert 'COPY ["lib/deep dir/x.py", "./lib/deep dir/x.py"]' in text
    assert PurePosixPath("./lib/deep dir/x.py").name == "x.py"


def test_every_step_that_makes_a_layer_has_a_title() -> None:
    found = plan(
        YAML.replace("uvicorn,", "gunicorn,") + "system: {build: [gcc], run: [libgomp1]}\n", weights=(weight("m"),)
    )
    text = dockerfile(found)
    steps = [line for line in text.splitlines() if line.partition(" ")[0] in {"RUN", "COPY", "WORKDIR"}]
    assert len(titles(text)) == len(steps)
    assert titles(text)["[builder 3/"] == "install 1 pins from requirements.txt, by hash"
