"""The smoke test of real containers: an image with selectable faults, and the Dockerfile that blogs recommend."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.engine.base import Engine
from mlship.smoke.result import Check, SmokeReport
from mlship.smoke.run import Bench, record_golden, smoke
from mlship.smoke.spec import LABEL, SmokeSpec
from tests.helpers.faulty import DOCKERFILE, FILES
from tests.helpers.patience import limit
from tests.helpers.smoke_images import built, containers, quiet

MIB = 1 << 20
SPEC = SmokeSpec(
    load="model:load",
    weights=("weights.json",),
    sample="sample.json",
    golden="golden.json",
    rtol=1e-3,
    atol=1e-5,
    output_shape=(None, 2),
    port=8080,
    live="/health/live",
    ready="/health/ready",
    predict="/predict",
    startup_seconds=20,
    grace_seconds=limit(3),
    load_seconds=20,
    memory=128 * MIB,
)


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("faulty")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with built(engine, folder, DOCKERFILE) as tag:
        yield tag


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = containers()
    yield
    assert containers() <= before


def check_of(report: SmokeReport, name: str) -> Check:
    return next(check for check in report.checks if check.id == name)


def test_a_full_shared_memory_is_named_and_can_be_raised(engine: Engine, image: str) -> None:
    roomy = replace(SPEC, memory=512 * MIB)
    failure = run_smoke(engine, image, "load-shares", roomy).failure
    assert failure is not None
    assert (failure.id, "`smoke.shm: 1g`" in failure.remedy) == ("model.load", True), failure
    assert (
        check_of(run_smoke(engine, image, "load-shares", replace(roomy, shm=200 * MIB)), "model.load").status == "pass"
    )


def test_a_model_that_looks_up_its_user_is_a_warning_for_other_users(engine: Engine, image: str) -> None:
    check = check_of(run_smoke(engine, image, ""), "model.any_user")
    assert (check.status, check.seen) == ("pass", "user 1000760000")


def run_smoke(engine: Engine, image: str, fault: str, spec: SmokeSpec = SPEC) -> SmokeReport:
    return smoke(Bench(engine, image, spec, quiet, env={"FAULT": fault}))


def failures(report: SmokeReport) -> list[Check]:
    return [check for check in report.checks if check.status == "fail"]


def test_a_good_image_is_proven(engine: Engine, image: str) -> None:
    report = run_smoke(engine, image, "")
    assert {check.status for check in report.checks} == {"pass"}, report.checks
    figures = report.figures
    assert figures.live_s is not None
    assert figures.ready_s is not None
    assert figures.live_s < figures.ready_s  # the model takes 0.3 s
    assert figures.peak_memory is not None
    assert figures.peak_memory > MIB


@pytest.mark.parametrize(
    ("fault", "check", "words", "remedy"),
    [
        ("import-missing", "model.import", "No module named 'sklearn'", "add scikit-learn to requirements.in"),
        ("import-exits", "model.import", "SystemExit while importing model: no licence", "fix it at"),
        ("load-raises", "model.load", "RuntimeError in load(): the weights are truncated", "model.load()"),
        ("load-hogs", "model.load", "killed for memory (limit 128 MiB) in load()", "smoke.memory"),
        ("load-writes", "model.load", "Read-only file system", "/tmp"),
        ("load-fetches", "model.load", "URLError", "model.weights"),
        ("predict-raises", "model.warm", "KeyError while answering the sample", "sample.json"),
        ("output-unknown", "model.finite", "an object of type object", "numpy arrays"),
        ("server-dies", "serve.ready", "configuration is missing", "its last lines"),
        ("server-local", "serve.ready", "answers nothing", "0.0.0.0"),
        ("server-cold", "serve.ready", "reported ready before the model was warm", "/health/ready"),
        ("server-500", "serve.malformed", "with 500", "422"),
        ("server-200", "serve.malformed", "with 200", "422"),
        ("server-drops", "serve.inflight", "answered nothing", "SIGTERM"),
        ("server-ignores", "serve.sigterm", f"still running {limit(3):g} s after SIGTERM", "tini"),
        ("server-code", "serve.sigterm", "exit code 3", "exit with code 0"),
    ],
)
def test_a_fault_fails_its_check(engine: Engine, image: str, fault: str, check: str, words: str, remedy: str) -> None:
    patience = limit(5) if fault == "server-local" else SPEC.startup_seconds  # it never answers
    found = failures(run_smoke(engine, image, fault, replace(SPEC, startup_seconds=patience)))
    assert [failed.id for failed in found] == [check]
    assert words in found[0].seen
    assert remedy in found[0].remedy


def test_a_hang_is_located(engine: Engine, image: str) -> None:
    begun = time.monotonic()
    found = failures(run_smoke(engine, image, "load-hangs", replace(SPEC, load_seconds=2)))
    assert [check.id for check in found] == ["model.load"]
    assert found[0].seen.startswith("hangs in load(): not finished after 2 s")
    assert "/app/model.py" in found[0].seen
    assert time.monotonic() - begun < limit(15)


def test_a_crash_is_located(engine: Engine, image: str) -> None:
    found = failures(run_smoke(engine, image, "load-crashes"))
    assert [check.id for check in found] == ["model.load"]
    assert found[0].seen.startswith("died of SIG")


def test_nan_fails_in_the_model_and_over_http(engine: Engine, image: str) -> None:
    found = {check.id: check.seen for check in failures(run_smoke(engine, image, "nan"))}
    assert found.keys() == {"model.finite", "model.golden", "serve.predict"}
    assert "nan at scores[0][1]" in found["model.finite"]


def test_other_output_on_stdout_is_ignored(engine: Engine, image: str) -> None:
    assert run_smoke(engine, image, "prints").passed


def test_a_server_that_never_becomes_ready(engine: Engine, image: str) -> None:
    found = failures(run_smoke(engine, image, "server-never-ready", replace(SPEC, startup_seconds=2)))
    assert [check.id for check in found] == ["serve.ready"]
    assert "not ready after 2 s: /health/ready answers 503, /health/live answered 200" in found[0].seen


def test_a_server_that_is_dead_while_it_loads_is_a_warning(engine: Engine, image: str) -> None:
    report = run_smoke(engine, image, "server-blocks")
    warned = [check for check in report.checks if check.status == "warn"]
    assert [check.id for check in warned] == ["serve.live"]
    assert report.passed


def test_another_answer_than_recorded_and_another_shape(engine: Engine, image: str) -> None:
    spec = replace(SPEC, golden="other.json", output_shape=(None, 3))
    found = {check.id: check.seen for check in failures(run_smoke(engine, image, "", spec))}
    assert found.keys() == {"model.golden", "model.shape"}
    assert "scores[0][1]" in found["model.golden"]


def test_the_answer_can_be_recorded(engine: Engine, image: str) -> None:
    assert '"scores"' in record_golden(Bench(engine, image, replace(SPEC, golden=None), quiet))


def test_root_is_refused(engine: Engine, image: str, tmp_path: Path) -> None:
    with built(engine, tmp_path, f"FROM {image}\nUSER 0\n") as tag:
        assert [check.id for check in failures(run_smoke(engine, tag, ""))] == ["image.user"]


def test_a_missing_command(engine: Engine, image: str, tmp_path: Path) -> None:
    with built(engine, tmp_path, f'FROM {image}\nCMD ["uvicorn-that-is-not-there"]\n') as tag:
        found = failures(run_smoke(engine, tag, ""))
    assert [check.id for check in found] == ["serve.ready"]
    assert "serve.command" in found[0].remedy


def test_the_dockerfile_that_blogs_recommend_fails(engine: Engine, tmp_path: Path) -> None:
    """`pip install --user` as root, copied to /root/.local, then USER 1001: /root is 0700."""
    package = tmp_path / "pkg" / "predictor"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def load():\n    return lambda payload: [payload['x']]\n")
    (tmp_path / "model.py").write_text("from predictor import load\n")
    (tmp_path / "sample.json").write_text('{"x": 1.0}')
    (tmp_path / "wheel.py").write_text(WHEEL)
    spec = replace(SPEC, weights=(), golden=None, output_shape=(1,), startup_seconds=1)
    with built(engine, tmp_path, BLOG) as tag:
        found = failures(smoke(Bench(engine, tag, spec, quiet)))
        assert [check.id for check in found] == ["model.import"]
        assert "No module named 'predictor'" in found[0].seen
        assert "install into /opt/venv" in found[0].remedy
        assert "user 1001" in found[0].remedy
        # The control: as root, the same image finds the package, so there is no other fault.
        with built(engine, tmp_path, f"FROM {tag}\nUSER 0\n") as as_root:
            report = {check.id: check.status for check in smoke(Bench(engine, as_root, spec, quiet)).checks}
            assert report["model.import"] == "pass"


# A package whose build fetches no backend, since builds must not depend on the network.
WHEEL = """\
import zipfile
name = "predictor-1.0-py3-none-any.whl"
with zipfile.ZipFile(name, "w") as wheel:
    wheel.write("pkg/predictor/__init__.py", "predictor/__init__.py")
    info = "predictor-1.0.dist-info"
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: predictor\\nVersion: 1.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "")
"""
BLOG = """\
FROM BASE AS builder
WORKDIR /build
COPY . .
RUN python wheel.py && pip install --user --no-index --no-cache-dir predictor-1.0-py3-none-any.whl

FROM BASE
WORKDIR /app
COPY --from=builder /root/.local /root/.local
COPY model.py sample.json ./
ENV PATH=/root/.local/bin:$PATH
USER 1001
CMD ["python", "-m", "http.server"]
"""


def test_ctrl_c_leaves_no_container(engine: Engine, image: str, tmp_path: Path) -> None:
    spec = replace(SPEC, load_seconds=60).to_json()
    dockerfile = f"FROM {image}\nENV FAULT=load-hangs\nLABEL {LABEL}='{spec}'\n"
    with built(engine, tmp_path, dockerfile) as tag:
        before = containers()
        command = [sys.executable, "-m", "mlship", "smoke", tag]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            until = time.monotonic() + 30
            while containers() == before and time.monotonic() < until:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        assert containers() == before
