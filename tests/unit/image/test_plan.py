"""The plan is a value: the same inputs give the same plan, JSON both ways, and the Dockerfile prints it."""

import json
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.build.preflight import check_tag
from mlship.errors import UsageError
from mlship.image.context import build_context, wheelhouse
from mlship.image.decide import forks, make_plan
from mlship.image.dockerfile import dockerfile, dockerignore, exec_form, quote
from mlship.image.labels import labels
from mlship.image.plan import BuildPlan, CudaImage, GpuPlan, PlanReason
from mlship.image.steps import install_groups, step_titles
from mlship.lock.check import Lock
from mlship.lock.pins import parse_lock
from mlship.lock.record import LockRecord, Trace
from mlship.project.git import Revision, without_credentials
from mlship.project.load import parse_config
from mlship.project.weights import WeightFile
from mlship.versioned import adapter
from tests.helpers.dockerfiles import numbered_steps

YAML = """\
name: digits
model: {load: "serving.model:load", weights: [weights], sample: sample.json, golden: golden.json}
serve: {command: [uvicorn, "serving.app:app"]}
source: [serving]
"""
DIGEST = f"sha256:{'1' * 64}"
REVISION = Revision("v1.2", "c" * 40, "https://example.com/team/model.git", 1_700_000_000)
PINS = f"numpy==2.4.6 --hash=sha256:{'a' * 64}\n"


MANY = "".join(
    f"{pin} --hash=sha256:{'a' * 64}\n" for pin in ("anyio==4.0", "numpy==2.4", "onnxruntime==1.32", "scipy==1.17")
)
SIZES = {"anyio": 100_000, "numpy": 17_000_000, "onnxruntime": 28_000_000, "scipy": 35_000_000}
# The instruction of a step, by the first word of its title; else RUN.
KINDS = {"add": "COPY", "copy": "COPY", "export": "COPY", "set": "WORKDIR", "create": "WORKDIR"}
STAGES = {"builder", "install-heavy", "system"}


def lock(pins: str = PINS, trace: Trace | None = None) -> Lock:
    record = LockRecord(
        {}, f"sha256:{'2' * 64}", "python:3.11-slim-bookworm", DIGEST, "pip-tools 7", sizes=SIZES, trace=trace
    )
    return Lock(record, parse_lock(pins, "requirements.txt"), pins)


def weight(path: str, size: int = 10) -> WeightFile:
    return WeightFile(path=path, kind="onnx", size=size)


def plan(
    text: str = YAML, revision: Revision = REVISION, weights: tuple[WeightFile, ...] = (), pins: str = PINS
) -> BuildPlan:
    return make_plan(parse_config(text), lock(pins), weights, revision, '{"load": "a"}')


def context(pins: str = PINS, trace: Trace | None = None) -> dict[str, bytes]:
    return build_context(plan(pins=pins), lock(pins, trace), parse_config(YAML))


def test_the_check_of_libraries_lies_beside_its_table() -> None:
    files = context()
    assert "programs/libraries.py" in files
    assert json.loads(files["programs/gpu.json"])["onnxruntime"] == "onnxruntime-gpu[cuda,cudnn]"


def test_same_inputs_same_bytes_and_json_both_ways() -> None:
    one, two = plan(), plan()
    assert one.to_json() == two.to_json()
    assert adapter(BuildPlan).validate_json(one.to_json()) == one
    assert dockerfile(one) == dockerfile(adapter(BuildPlan).validate_json(one.to_json()))


def test_the_gpu_part_goes_both_ways_too() -> None:
    image = CudaImage("nvidia/cuda:12.6.3-runtime-ubuntu22.04", DIGEST)
    gpu = GpuPlan(
        "12.6", "image", "cuda>=12.4", image, image, ("flash-attn",), image, "https://x/cu126", ("a",), ("b",), ("7.5",)
    )
    whole = replace(plan(), gpu=gpu, reasons=(PlanReason("cuda", "12.6", "why", ("source",)),))
    assert all(getattr(gpu, field.name) for field in fields(GpuPlan))
    assert adapter(BuildPlan).validate_json(whole.to_json()) == whole


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
    assert check_tag(made) == made


def test_weights_are_grouped_by_folder() -> None:
    found = plan(weights=(weight("weights/b.onnx"), weight("weights/a.onnx"), weight("top.onnx", 7)))
    assert [(w.folder, w.files, w.size) for w in found.weights] == [
        ("", ("top.onnx",), 7),
        ("weights", ("weights/a.onnx", "weights/b.onnx"), 20),
    ]
    text = dockerfile(found)
    assert "RUN --network=none --mount=type=bind,source=top.onnx,target=/weights/0" in text
    assert "install -D --mode=0444 /weights/0 /layers/weights/app/top.onnx &&" in text
    assert "install -D --mode=0444 /weights/1 /layers/weights/app/weights/b.onnx &&" in text


def test_a_name_that_is_no_plain_word_stays_one_mount_and_one_word() -> None:
    text = dockerfile(plan(weights=(weight("my weights/a, b.onnx"),)))
    assert "--mount='type=bind,\"source=my weights/a, b.onnx\",target=/weights/0'" in text
    assert "/weights/0 '/layers/weights/app/my weights/a, b.onnx' &&" in text


def test_the_order_is_heavy_weights_light_code() -> None:
    """A host unpacks again what lies above a layer that changed: so the weights lie below what moves often."""
    shipped = dockerfile(plan(weights=(weight("m.onnx"),), pins=MANY)).partition("AS runtime")[2]
    stages = re.findall(r"COPY --link --from=(\S+)", shipped)
    assert list(dict.fromkeys(stages)) == [
        *("python-modules", "framework-packages", "heavy-packages", "weights", "install-light", "source"),
    ]


@pytest.mark.parametrize("pins", [MANY, PINS])
def test_the_last_group_checks_all_of_them(pins: str) -> None:
    found = plan(pins=pins)
    *others, last = (group.name for group in install_groups(found))
    stages = re.split(r"(?m)^FROM ", dockerfile(found))
    (checks,) = [stage for stage in stages if "/mlship/check.py" in stage]
    assert checks.split()[2] == f"install-{last}"
    assert re.findall(r"from=install-(\w+),source=/layers/metadata", checks) == others
    assert ("/metadata/*" in checks) == bool(others)
    assert "uv pip check" in checks


def test_nothing_runs_on_top_of_linked_layers() -> None:
    """All layers would have to be put together for it, at each change of one of them."""
    shipped = dockerfile(plan(weights=(weight("m.onnx"),), pins=MANY)).partition("AS runtime")[2]
    assert not re.search(r"(?m)^(RUN|WORKDIR)", shipped)
    assert not re.search(r"(?m)^COPY (?!--link)", shipped)


def test_only_steps_that_download_have_a_network() -> None:
    """A step without one starts in a third of the time, and cannot fetch what the lock does not name."""
    found = plan(YAML + "system: {build: [gcc], run: [libgomp1]}\n", weights=(weight("m.onnx"),), pins=MANY)
    steps = re.findall(r"(?ms)^RUN .*?[^\\]$", dockerfile(found))
    downloads = [step for step in steps if "/mlship/settings.sh" in step or "apt.sh" in step]
    assert len(downloads) == 6  # uv, two lists of Debian packages, three groups
    for step in steps:
        assert ("--network=none " in step) == (step not in downloads), step


def test_a_pin_that_moves_changes_one_layer_and_one_group() -> None:
    before, after = (context(pins=text) for text in (MANY, MANY.replace("anyio==4.0", "anyio==4.1")))
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"check/pins.json", "light/install/requirements.txt"}
    assert dockerfile(plan(pins=MANY)) == dockerfile(plan(pins=MANY.replace("anyio==4.0", "anyio==4.1")))


def test_a_group_sees_the_local_wheels_of_its_own_pins() -> None:
    found = {name: [pin.name for pin in pins] for name, pins in wheelhouse(plan(pins=MANY), lock(MANY)).items()}
    assert found == {
        "installer": ["uv"],
        "framework": ["onnxruntime"],
        "heavy": ["numpy", "scipy"],
        "light": ["anyio"],
    }
    text = dockerfile(plan(pins=MANY))
    assert all(f"from=wheelhouse,source=/{name},target=/wheelhouse" in text for name in found)


def test_only_its_own_group_sees_what_was_traced_of_it() -> None:
    traced = Trace({"anyio": {"anyio": "__init__ abc"}, "scipy": {"scipy": "__init__"}}, {".": "abc"})
    found = context(pins=MANY, trace=traced)
    assert json.loads(found["light/modules/modules.json"]) == {"anyio": {"anyio": "__init__ abc"}}
    assert json.loads(found["heavy/modules/modules.json"]) == {"scipy": {"scipy": "__init__"}}
    assert json.loads(found["python/modules/modules.json"]) == {".": "abc"}
    assert not any("modules.json" in path for path in context(pins=MANY))


def test_tests_are_left_out_only_if_nothing_imports_them() -> None:
    kinds = {
        group: json.loads(context(pins=MANY)[f"{group}/modules/prune.json"])["kinds"]
        for group in ("framework", "heavy", "light")
    }
    assert kinds == {"framework": [], "heavy": ["headers", "archives"], "light": ["headers", "archives"]}
    traced = context(pins=MANY, trace=Trace({}, {}))
    assert json.loads(traced["framework/modules/prune.json"])["kinds"] == ["tests"]
    assert json.loads(traced["light/modules/prune.json"])["kinds"] == ["tests", "headers", "archives"]


@pytest.mark.parametrize("trace", [None, Trace({"anyio": {"anyio": "__init__"}}, {".": "abc"})])
def test_a_trace_sees_everything_and_compiles_nothing(trace: Trace | None) -> None:
    found = build_context(plan(pins=MANY), lock(MANY, trace), parse_config(YAML), tracing=True)
    assert {found[name] for name in found if name.endswith("modules.json")} == {b"{}\n"}
    assert "python/modules/modules.json" in found
    kinds = [json.loads(found[name])["kinds"] for name in found if name.endswith("prune.json")]
    assert kinds == [[], [], []]


def test_rules_that_every_image_satisfies() -> None:
    text = dockerfile(plan())
    assert not re.search(r"(?m)^#\s*syntax=", text)
    froms = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert {name for name in froms if "@sha256:" not in name} <= {
        "scratch",
        "base",
        "environment",
        "python-modules",
        *STAGES,
    }
    assert not re.search(r"(?m)^(ADD|ARG) ", text)
    assert "USER 1001:1001" in text
    assert "--require-hashes" in text
    assert re.search(r"(?m)^CMD \[", text)
    assert re.search(r"(?m)^HEALTHCHECK", text)


def test_ignore_denies_by_default() -> None:
    lines = [line for line in dockerignore(plan(weights=(weight("m.onnx"),))).splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!serving", "!sample.json", "!golden.json", "!m.onnx",
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


def test_telemetry_of_libraries_is_switched_off() -> None:
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
    assert check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", "Model", "a b", "$(id)", "a:b:c", "-x", "a\n", "a//b", "x" * 300, "m@sha256:1"])
def test_what_is_no_name_of_an_image(tag: str) -> None:
    with pytest.raises(UsageError):
        check_tag(tag)


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
    assert "bytecode.py code /repository /layers/code /app serving 'lib/deep dir/x.py'" in text


def test_every_step_that_makes_a_layer_has_a_title() -> None:
    found = plan(
        YAML.replace("uvicorn,", "gunicorn,") + "system: {build: [gcc], run: [libgomp1]}\n", weights=(weight("m"),)
    )
    text = dockerfile(found)
    titles = step_titles(found)
    assert numbered_steps(text).keys() == titles.keys()
    assert titles["install-heavy"] == ("install numpy from requirements.txt, and check all packages against the lock",)
    for stage, steps in numbered_steps(text).items():
        for step, title in zip(steps, titles[stage], strict=True):
            expected = (
                "RUN" if stage in {"environment", "source", "weights"} else KINDS.get(title.partition(" ")[0], "RUN")
            )
            assert step.startswith(expected), (title, step)


def test_a_credential_is_shipped_only_under_its_own_path() -> None:
    lines = dockerignore(replace(plan(), source=("app", "app/tls/ca.pem"))).splitlines()
    assert lines.index("!app") < lines.index("**/*.pem") < lines.index("!app/tls/ca.pem", lines.index("**/*.pem"))
    assert {"**/.ssh", "**/.env", "**/credentials.json"} <= set(lines)
