"""The flow against a scripted engine: what is asked in which order, and that nothing unproven is pushed."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from mlship.build.preflight import check_push, check_tag, smoke_device, unproven_name
from mlship.build.prepare import Prepared, prepare
from mlship.build.run import BuildOptions, build
from mlship.engine.base import BuildRequest, BuildWatcher, Disk, EngineInfo, Manifest
from mlship.errors import BuildError, EngineError, LockError, TransientError, UsageError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.record import LockRecord, read_record
from mlship.project.base import for_platform
from mlship.project.load import load_config
from mlship.report.build import show_build
from mlship.smoke.result import Check, Figures, SmokeReport
from mlship.smoke.run import Bench
from mlship.smoke.spec import Device
from mlship.versioned import to_json
from tests.helpers.attached import ATTESTATION, Attached
from tests.helpers.build_reporters import IMAGE, Silent
from tests.helpers.command import mlship_in_process
from tests.helpers.fakes import FakeEngine
from tests.helpers.planted import planted
from tests.helpers.toy import toy

DIGEST = f"sha256:{'1' * 64}"
PIN = f"iniconfig==2.3.1 --hash=sha256:{'a' * 64}\n"


@pytest.fixture(autouse=True)
def attached(monkeypatch: pytest.MonkeyPatch) -> Attached:
    return Attached.instead_of_a_registry(monkeypatch)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MLSHIP_BASE_MIRROR", raising=False)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = toy(tmp_path)
    (repo / "requirements.txt").write_text(PIN)
    inputs = collect_inputs(repo, load_config(repo, {}))
    LockRecord(inputs, sha256_text(PIN), "python:3.11-slim-bookworm", DIGEST, "pip-tools 7").write(repo)
    return repo


@pytest.fixture
def prepared(repo: Path) -> Prepared:
    return prepare(repo)


def judged(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """The smoke test says so."""
    check = Check("model.load", "the model loads", "pass" if status == "pass" else "fail", "seen", "remedy")
    report = SmokeReport("toy:dev", IMAGE.id, "cpu", (check,), Figures())
    monkeypatch.setattr("mlship.smoke.run.smoke", lambda *_, **__: report)


def test_what_is_asked_of_the_engine(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, "pass")
    engine = FakeEngine(built=IMAGE)
    report = build(prepared, engine, BuildOptions(cache_from=("a",), cache_to=("b",), builder="other"), Silent())
    (asked,) = (request for request in engine.requests if isinstance(request, BuildRequest))
    assert asked.dockerfile == prepared.dockerfile
    assert asked.ignore == prepared.dockerignore
    assert (asked.tag, asked.platform, asked.builder) == (asked.tag, "linux/amd64", "other")
    assert (asked.tag or "").startswith("mlship-run:"), "a name that no other run uses"
    assert (asked.cache_from, asked.cache_to) == (("a",), ("b",))
    assert asked.contexts["wheelhouse"].is_dir()
    assert (report.tag, report.size, report.digest) == ("toy:dev", 1000, None)


def test_a_proven_image_gets_its_names_and_is_pushed_with_its_proof(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, attached: Attached
) -> None:
    judged(monkeypatch, "pass")
    names = ("r/toy:1", "s:5000/toy", "r/toy:latest")
    engine = FakeEngine(built=IMAGE, digests=dict.fromkeys(names, DIGEST))
    reporter = Silent()
    report = build(prepared, engine, BuildOptions(tags=names, push=True), reporter)
    assert (report.tags, report.proven, report.digest) == (names, True, DIGEST)
    assert engine.calls[-4:] == ["push", "push", "push", "info"]
    assert [call for call in engine.calls if call.startswith("tag")] == [f"tag {name}" for name in names]
    assert sorted(engine.images) == sorted(names), "the unproven name is gone"
    steps = [
        "building r/toy:1",
        "testing the image as it will run in production",
        "pushing r/toy:1",
        "pushing s:5000/toy",
        "pushing r/toy:latest",
        "attaching the proof",
    ]
    assert reporter.steps == steps
    assert report.attestation == ATTESTATION
    built_from = ("python:3.11-slim-bookworm", "requirements.txt")
    assert sorted(attached.rows) == [("r/toy:1", DIGEST, built_from), ("s:5000/toy", DIGEST, built_from)]


def test_names_that_a_registry_gives_other_digests_are_reported(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, attached: Attached
) -> None:
    judged(monkeypatch, "pass")
    other = f"sha256:{'2' * 64}"
    reporter = Silent()
    engine = FakeEngine(built=IMAGE, digests={"a:1": DIGEST, "b:1": other})
    assert build(prepared, engine, BuildOptions(tags=("a:1", "b:1"), push=True), reporter).digest == DIGEST
    assert reporter.warned == [f"`b:1` has another digest than `a:1`: {other}"]
    assert {(image, digest) for image, digest, _ in attached.rows} == {("a:1", DIGEST), ("b:1", other)}


@pytest.mark.parametrize("smoke", ["cpu", None])
def test_an_unproven_image_never_gets_a_requested_name(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], smoke: Device | None
) -> None:
    judged(monkeypatch, "fail")
    previous = replace(IMAGE, id="sha256:previous")
    engine = FakeEngine(built=IMAGE, images={"toy:dev": previous})
    report = build(prepared, engine, BuildOptions(smoke=smoke, push=True), Silent())
    assert "push" not in engine.calls
    assert (report.tags, report.requested, report.proven) == (("toy:unproven-dev",), ("toy:dev",), False)
    assert engine.images == {"toy:dev": previous, "toy:unproven-dev": IMAGE}
    show_build(report)
    shown = capsys.readouterr().out
    assert "toy:dev: only a proven image gets this name" in shown
    assert shown.startswith("NOT PROVEN")
    assert "Pushed unproven" not in shown


def test_an_unproven_image_is_pushed_only_on_request_and_says_so(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], attached: Attached
) -> None:
    judged(monkeypatch, "fail")
    engine = FakeEngine(built=IMAGE, digests={"toy:dev": DIGEST})
    report = build(prepared, engine, BuildOptions(push_unproven=True), Silent())
    assert (report.tags, report.proven, report.digest) == (("toy:dev",), False, DIGEST)
    built, label = [request for request in engine.requests if isinstance(request, BuildRequest)]
    assert label.dockerfile == f'FROM {built.tag}\nLABEL dev.mlship.proof.smoke="none" dev.mlship.layers=7\n'
    assert json.loads(to_json(report))["proven"] is False
    show_build(report)
    assert "Pushed unproven, as requested (--push-unproven)" in capsys.readouterr().out
    assert attached.rows == []


def test_without_smoke_nothing_is_proven(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    report = build(prepared, FakeEngine(built=IMAGE), BuildOptions(smoke=None), Silent())
    assert (report.smoke, report.smoke_s) == (None, None)
    show_build(report)
    assert capsys.readouterr().out.startswith("NOT PROVEN: toy:unproven-dev was built but not tested")


def test_names_that_other_runs_move_change_no_verdict(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run of the same project builds, renames and removes while this one tests."""
    other = replace(IMAGE, id="sha256:other")
    engine = FakeEngine(built=IMAGE)

    def smoke(bench: Bench) -> SmokeReport:
        engine.images["toy:unproven-dev"] = engine.images["toy:dev"] = other
        assert engine.images[bench.image] == IMAGE
        engine.untag("toy:unproven-dev")
        check = Check("model.load", "the model loads", "pass", "seen", "")
        return SmokeReport(bench.image, engine.images[bench.image].id, "cpu", (check,), Figures())

    monkeypatch.setattr("mlship.smoke.run.smoke", smoke)
    report = build(prepared, engine, BuildOptions(), Silent())
    assert (report.image_id, engine.images) == (IMAGE.id, {"toy:dev": IMAGE})


def test_a_name_that_another_run_takes_during_the_push_is_no_proof(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, attached: Attached
) -> None:
    judged(monkeypatch, "pass")
    engine = FakeEngine(built=IMAGE, digests={"toy:dev": DIGEST})

    def push(reference: str) -> str:
        engine.images[reference] = replace(IMAGE, id="sha256:other")
        return DIGEST

    monkeypatch.setattr(engine, "push", push)
    with pytest.raises(TransientError, match="gave `toy:dev` to another image"):
        build(prepared, engine, BuildOptions(push=True), Silent())
    assert attached.rows == []


def test_an_interrupted_build_leaves_no_name(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(built=IMAGE)

    def interrupted(*_: object, **__: object) -> SmokeReport:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlship.smoke.run.smoke", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(prepared, engine, BuildOptions(), Silent())
    assert engine.images == {}


@pytest.mark.parametrize(
    ("name", "unproven"),
    [
        ("digits:1.0", "digits:unproven-1.0"),
        ("digits", "digits:unproven-latest"),
        ("localhost:5000/a/digits", "localhost:5000/a/digits:unproven-latest"),
        ("r.example.com:5000/digits:v1", "r.example.com:5000/digits:unproven-v1"),
        (f"digits:{'x' * 128}", f"digits:unproven-{'x' * 119}"),
    ],
)
def test_the_unproven_name_is_a_valid_name(name: str, unproven: str) -> None:
    assert unproven_name(name) == unproven
    assert check_tag(unproven) == unproven


def test_pushing_without_a_proof_is_refused() -> None:
    with pytest.raises(UsageError, match="proven images only") as caught:
        check_push(push=True, unproven=False, smoke=False)
    assert "--push-unproven" in caught.value.hint
    check_push(push=True, unproven=True, smoke=False)
    check_push(push=False, unproven=False, smoke=False)


def test_an_image_for_the_cpu_is_tested_on_the_cpu_and_nowhere_else(prepared: Prepared) -> None:
    assert smoke_device(prepared, None) == "cpu"
    with pytest.raises(UsageError, match="not built for a GPU") as caught:
        smoke_device(prepared, "gpu")
    assert "gpu:" in caught.value.hint


def locked_for_arm(repo: Path) -> None:
    config = for_platform(load_config(repo, {}), "linux/arm64")
    (repo / "requirements.linux-arm64.txt").write_text(PIN)
    record = LockRecord(collect_inputs(repo, config), sha256_text(PIN), "python:3.11-slim-bookworm", DIGEST, "x")
    record.write(repo, "mlship.linux-arm64.lock")


def test_another_platform_is_refused_before_it_is_built(repo: Path) -> None:
    locked_for_arm(repo)
    engine = FakeEngine(built=IMAGE)
    with pytest.raises(UsageError, match="cannot test an image for"):
        build(prepare(repo, "linux/arm64"), engine, BuildOptions(), Silent())
    assert "build" not in engine.calls
    build(prepare(repo, "linux/arm64"), engine, BuildOptions(smoke=None), Silent())
    assert "build" in engine.calls


def test_another_platform_has_a_lock_of_its_own(repo: Path) -> None:
    with pytest.raises(LockError, match=r"no `mlship\.linux-arm64\.lock`") as caught:
        prepare(repo, "linux/arm64")
    assert caught.value.hint == "run `mlship lock --platform linux/arm64` and commit what it writes"
    locked_for_arm(repo)
    other = prepare(repo, "linux/arm64")
    assert (other.plan.platform, other.plan.lock) == ("linux/arm64", "requirements.linux-arm64.txt")
    assert prepare(repo).plan.lock == "requirements.txt"
    (repo / "requirements.in").write_text("iniconfig\nattrs\n")
    with pytest.raises(LockError, match="has changed") as stale:
        prepare(repo, "linux/arm64")
    assert "--platform linux/arm64" in stale.value.hint


def test_cuda_in_the_lock_of_a_cpu_project_is_a_warning(repo: Path) -> None:
    assert prepare(repo).warnings == ()
    pins = "".join(f"{pin} --hash=sha256:{'a' * 64}\n" for pin in ("nvidia-cuda-runtime-cu12==12.6.77", "torch==2.8.0"))
    (repo / "requirements.txt").write_text(pins)
    inputs = collect_inputs(repo, load_config(repo, {}))
    LockRecord(inputs, sha256_text(pins), "python:3.11-slim-bookworm", DIGEST, "pip-tools 7").write(repo)
    (warning,) = prepare(repo).warnings
    assert "torch 2.8.0, nvidia-cuda-runtime bring " in warning
    assert "`gpu: {}`" in warning
    shown = mlship_in_process("plan", cwd=repo)
    assert shown.code == 0
    assert warning.split(":")[0] in " ".join(shown.stderr.split())


def test_an_unknown_platform_is_refused(repo: Path) -> None:
    with pytest.raises(UsageError, match="unsupported platform `windows`"):
        prepare(repo, "windows")


class Old(FakeEngine):
    def info(self) -> EngineInfo:
        raise EngineError("Docker Engine 20.10 is too old", hint="install 23")


@pytest.mark.parametrize(("free", "warned"), [(10**9, 0), (10**8, 1)])
def test_what_disk_it_takes_is_said_before_anything_is_built(repo: Path, free: int, warned: int) -> None:
    replace(read_record(repo), sizes={"iniconfig": 6_000}).write(repo)
    reporter = Silent()
    engine = FakeEngine(built=IMAGE, free=Disk("/var/lib/docker", free))
    build(prepare(repo), engine, BuildOptions(smoke=None), reporter)
    assert reporter.steps[0].startswith("needs up to 477 MiB of disk without a build cache")
    assert reporter.steps[1].startswith("building")
    assert len(reporter.warned) == warned
    assert all("docker buildx prune" in text for text in reporter.warned)


def test_where_the_disk_or_the_sizes_are_not_known_nothing_is_said_of_it(prepared: Prepared) -> None:
    for free in (None, Disk("/var/lib/docker", 1)):
        reporter = Silent()
        build(prepared, FakeEngine(built=IMAGE, free=free), BuildOptions(smoke=None), reporter)
        assert reporter.steps[0].startswith("building")
        assert not reporter.warned


def test_what_ails_the_engine_explains_a_failed_build(prepared: Prepared) -> None:
    engine = Old(failure=BuildError("unknown flag", hint="?"))
    with pytest.raises(EngineError, match="too old"):
        build(prepared, engine, BuildOptions(smoke=None), Silent())


class Hanging(FakeEngine):
    def history(self, reference: str) -> tuple[tuple[str, int], ...]:
        raise EngineError(f"the engine did not answer about {reference}", hint="restart it")


def test_an_engine_that_does_not_say_what_it_built_is_reported_before_the_push(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(monkeypatch, "pass")
    engine = Hanging(built=IMAGE, digests={"r/toy:1": DIGEST})
    with pytest.raises(EngineError, match="did not answer"):
        build(prepared, engine, BuildOptions(tags=("r/toy:1",), push=True), Silent())
    assert "push" not in engine.calls


class Asked(FakeEngine):
    """Its build ends once the engine was asked what it is."""

    def __init__(self) -> None:
        super().__init__(built=IMAGE)
        self.asked = Event()

    def info(self) -> EngineInfo:
        self.asked.set()
        return super().info()

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        assert self.asked.wait(60)
        return super().build(request, watch)


def test_the_engine_says_what_it_is_while_it_builds(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, "pass")
    assert build(prepared, Asked(), BuildOptions(), Silent()).proven


def test_a_failed_build_of_a_sound_engine_is_its_own_error(prepared: Prepared) -> None:
    with pytest.raises(BuildError, match="step 3"):
        build(prepared, FakeEngine(failure=BuildError("step 3", hint="?")), BuildOptions(), Silent())


def test_a_builder_that_keeps_its_images_is_named(prepared: Prepared) -> None:
    with pytest.raises(EngineError, match="does not have the image") as caught:
        build(prepared, FakeEngine(), BuildOptions(), Silent())
    assert "`mlship build --builder default`" in caught.value.hint


def test_the_report_says_everything(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(monkeypatch, "pass")
    report = build(prepared, FakeEngine(built=IMAGE, digests={"toy:dev": DIGEST}), BuildOptions(push=True), Silent())
    show_build(replace(report, build_s=61.0, smoke_s=2.0))
    text = capsys.readouterr().out
    assert text.startswith("PROVEN on cpu: toy:dev")
    assert "Pushed unproven" not in text
    shown = dict(re.findall(r"^  (\w+(?: \w+)?)  +(.+)$", text.partition("\nImage\n")[2], re.MULTILINE))
    assert shown["name"] == "toy:dev"
    assert shown["id"] == IMAGE.id
    assert shown["platform"] == "linux/amd64"
    assert shown["base"] == f"python:3.11-slim-bookworm@{DIGEST}"
    assert shown["size"].startswith("1000 B")
    assert (shown["built in"], shown["tested in"]) == ("61 s", "2 s")
    assert shown["pushed as"] == DIGEST
    assert shown["proof"] == f"{ATTESTATION}; `mlship verify toy:dev` reads it"


def test_build_and_smoke_test_are_timed_apart(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes as long as a clock says that moves only while it runs."""
    clock = [1000.0]
    monkeypatch.setattr("mlship.build.run.time.monotonic", lambda: clock[0])
    judged(monkeypatch, "pass")
    proven = importlib.import_module("mlship.smoke.run").smoke

    class Slow(FakeEngine):
        def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
            clock[0] += 61.0
            return super().build(request, watch)

    def slow_smoke(*arguments: object, **options: object) -> object:
        clock[0] += 7.0
        return proven(*arguments, **options)

    monkeypatch.setattr("mlship.smoke.run.smoke", slow_smoke)
    report = build(prepared, Slow(built=IMAGE), BuildOptions(), Silent())
    assert (report.build_s, report.smoke_s) == (61.0, 7.0)
    assert build(prepared, Slow(built=IMAGE), BuildOptions(smoke=None), Silent()).smoke_s is None


def test_credentials_stop_the_plan(repo: Path) -> None:
    server = repo / "server.py"
    server.write_text(f"{server.read_text()}\nTOKEN = '{planted('hugging face', 1)}'\n")
    with pytest.raises(UsageError, match=r"`server\.py` line \d+ \(a Hugging Face token\)"):
        prepare(repo)
    yaml = repo / "mlship.yaml"
    yaml.write_text(f"{yaml.read_text()}allow_credentials: [server.py]\n")
    prepare(repo)
    yaml.write_text(f"{yaml.read_text()}env: {{ENDPOINT: '{planted('slack webhook', 1)}'}}\n")
    with pytest.raises(UsageError, match=r"mlship\.yaml would put a webhook address of Slack into the image"):
        prepare(repo)
