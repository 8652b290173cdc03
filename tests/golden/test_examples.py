"""What init, plan and dockerfile say of each example, word for word. A person reads the diff when it changes."""

import contextlib
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlship.cli.app import app
from mlship.cuda.fit.target import lock_target
from mlship.cuda.hosts.profile import read_fleet
from mlship.errors import MatchError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs, read_inputs
from mlship.lock.pins import parse_lock
from mlship.lock.record import LockRecord
from mlship.project.base import base_name
from mlship.project.load import load_config
from tests.conftest import Golden
from tests.helpers.cuda_cases import TABLE
from tests.helpers.examples import ROOT, Example, examples, with_tiny_weights

# What is chosen for the hosts, and the real lock that stands for it.
LOCKS = {
    "torch<2.15 cu126 from the wheel index": "t2141-cu126",
    "torch<2.15.1 cu132": "t2150",
    "torch<2.15 cu130": "t2141",
    "torch<2.12 cu128 from the wheel index": "t270-cu128",
    "onnxruntime-gpu<1.27 cu12": "ort1260-cuda",
    "onnxruntime-gpu<1.32 cu13": "ort1311-cuda",
}
HOSTS = sorted(path.stem for path in (ROOT / "hosts").glob("*.json"))
PAIRS = [(host,) for host in HOSTS] + [("gtx1080ti", "rtx5090")]


@pytest.fixture(params=examples(), ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


@pytest.fixture(autouse=True)
def _nothing_from_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLSHIP_BASE_MIRROR", "MLSHIP_WHEEL_INDEX", "SOURCE_DATE_EPOCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def stand_in_lock(repo: Path) -> None:
    """A lock without an index and an engine: each name that is asked for, once, with a made-up version and hash.

    For GPUs, the pins of a real lock for the CUDA that is chosen, with made-up hashes.
    """
    config = load_config(repo, {})
    files = read_inputs(repo, config)
    asked = [file for file in files if config.gpu or file.path == config.requirements.input]
    lines = [line for file in asked for _, line in file.lines() if line[0].isalpha()]
    pins = {line.split(">")[0].split("=")[0].split("[")[0].strip(): "1.0" for line in lines}
    target = None
    if config.gpu:
        target = lock_target(config, files, read_fleet(repo / config.gpu.hosts, "hosts/"))
        for chosen in target.key.partition(": ")[2].split(", "):  # torch, the last, pins CUDA's libraries exactly
            pins |= dict(pin.split("==") for pin in TABLE.locks[LOCKS[chosen]].pins)
    text = "".join(f"{name}=={pins[name]} \\\n    --hash=sha256:{'0' * 64}\n" for name in sorted(pins))
    (repo / config.requirements.lock).write_text(text)
    images = target.judge(parse_lock(text, "the stand-in")) if target else ()
    LockRecord(
        inputs=collect_inputs(repo, config, target.key if target else None),
        requirements=sha256_text(text),
        base=base_name(config),
        digest=f"sha256:{'1' * 64}",
        resolver="pip-tools 7",
        images=dict.fromkeys(images, f"sha256:{'2' * 64}"),
    ).write(repo)


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_example(example: Example, tmp_path: Path, golden: Golden) -> None:
    repo = with_tiny_weights(example, example.copy(tmp_path))
    said("init", "--yes", "-C", str(repo))
    stand_in_lock(repo)
    golden(f"{example.name}/mlship.yaml", (repo / "mlship.yaml").read_text())
    golden(f"{example.name}/plan.txt", said("plan", "-C", str(repo)))
    golden(f"{example.name}/plan.json", said("plan", "--json", "-C", str(repo)))
    golden(f"{example.name}/Dockerfile", said("dockerfile", "-C", str(repo)))


@pytest.fixture(params=[example for example in examples() if example.gpu], ids=lambda example: example.name)
def for_gpus(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """An example for GPUs, after init."""
    found: Example = request.param
    repo = found.copy(tmp_path)
    said("init", "--yes", "-C", str(repo))
    return found.name, repo


def answered(*arguments: str) -> str:
    """Everything that is said, as a person sees it, and how it ends."""
    result = CliRunner().invoke(app, arguments)
    return f"{result.output}\nexit code {result.exit_code}\n"


@pytest.mark.parametrize("hosts", PAIRS, ids="-".join)
def test_plan_on_each_host(for_gpus: tuple[str, Path], hosts: tuple[str, ...], golden: Golden) -> None:
    """A lock made for these hosts alone; if nothing runs on all of them, what is refused and how to fix it."""
    name, repo = for_gpus
    shutil.rmtree(repo / "hosts")
    (repo / "hosts").mkdir()
    for host in hosts:
        shutil.copy(ROOT / "hosts" / f"{host}.json", repo / "hosts")
    with contextlib.suppress(MatchError):  # `plan` says the same
        stand_in_lock(repo)
    golden(f"{name}/plan-{'-'.join(hosts)}.txt", answered("plan", "-C", str(repo)))


def test_plan_on_a_host_that_the_lock_was_not_made_for(for_gpus: tuple[str, Path], golden: Golden) -> None:
    name, repo = for_gpus
    stand_in_lock(repo)
    named = ("--driver", "570.86.15", "--compute-capability", "12.0")
    golden(f"{name}/plan-named-rtx5090.txt", answered("plan", *named, "-C", str(repo)))


def test_another_fleet_makes_the_lock_stale(for_gpus: tuple[str, Path], golden: Golden) -> None:
    name, repo = for_gpus
    stand_in_lock(repo)
    for host in ("t4", "a100"):
        (repo / "hosts" / f"{host}.json").unlink()
    golden(f"{name}/plan-stale.txt", answered("plan", "-C", str(repo)))


def test_two_stacks_on_three_hosts_stay_readable(tmp_path: Path, golden: Golden) -> None:
    example = next(example for example in examples() if example.name == "gpu-torch")
    repo = example.copy(tmp_path)
    with (repo / "requirements.in").open("a") as file:
        file.write("onnxruntime-gpu[cuda,cudnn]\n")
    said("init", "--yes", "-C", str(repo))
    stand_in_lock(repo)
    golden("gpu-torch/plan-two-stacks.txt", answered("plan", "-C", str(repo)))
