"""Every choice of a plan: each function returns what it chooses together with the reason. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from mlship.frameworks import telemetry_of
from mlship.image.labels import labels
from mlship.image.plan import (
    USER,
    BuildPlan,
    Bytecode,
    DebianPackages,
    GpuPlan,
    Health,
    PlanBase,
    PlanReason,
    WeightFolder,
)
from mlship.lock.check import Lock
from mlship.lock.groups import GROUPS, PackageLayer, package_layers
from mlship.lock.pins import Pin
from mlship.lock.record import Trace
from mlship.project.base import base_name, base_reference
from mlship.project.commands import program_name
from mlship.project.config import Config, System
from mlship.project.git import Revision
from mlship.project.weights import WeightFile
from mlship.units import count_of

# 1980-01-01, as in the layers: an image without a commit has no date of its own, so that every build is the same.
NO_COMMIT = 315532800

_FORKING = {"bentoml", "gunicorn", "uwsgi", "supervisord", "honcho"}
_WORKER_FLAGS = ("--workers", "-w")
_USER_REASON = PlanReason("user", USER, "numeric, so that Kubernetes can verify it is not root; only /tmp is writable")


def make_plan(
    config: Config,
    lock: Lock,
    weights: tuple[WeightFile, ...],
    revision: Revision,
    smoke: str,
    *,
    gpu: GpuPlan | None = None,
) -> BuildPlan:
    """Decide everything that the Dockerfile says.

    Args:
        smoke: the smoke test's specification as JSON, for the image's labels.
        gpu: result of matching the lock to the hosts; None for a CPU image.
    """
    base, of_base = _base(config, lock)
    layers, of_layers = _layers(lock, gpu)
    bytecode, of_bytecode = _bytecode(lock.record.trace)
    version, of_version = _version(config, revision)
    folders, of_weights = _weights(weights)
    init, of_init = _init(config.serve.command)
    telemetry, of_telemetry = _telemetry(lock.pins)
    kept = (PlanReason("keep", ", ".join(config.keep), "set in mlship.yaml"),) if config.keep else ()
    packages = (of_base, _lock_reason(config, lock), of_layers, of_bytecode, *kept)
    service = (of_version, of_weights, _USER_REASON, of_init, *of_telemetry, *_pickles(config))
    return BuildPlan(
        tag=f"{config.name}:{version}",
        platform=config.platform,
        python=config.python,
        base=base,
        lock=config.requirements.lock,
        pins=len(lock.pins),
        weights=folders,
        source=tuple(dict.fromkeys((*config.source, *config.test_files))),
        packages=_packages(config.system, gpu, init=init),
        layers=layers,
        bytecode=bytecode,
        keep=config.keep,
        env=dict(sorted({**telemetry, **(gpu.env if gpu else {}), **config.env}.items())),
        command=config.serve.command,
        init=init,
        port=config.serve.port,
        health=Health(f"http://127.0.0.1:{config.serve.port}{config.serve.ready}", round(config.serve.startup_seconds)),
        labels=labels(config, version, lock, revision, smoke),
        epoch=NO_COMMIT if revision.epoch is None else revision.epoch,
        reasons=(*packages, *service),
        gpu=gpu,
    )


def forks(command: Sequence[str]) -> bool:
    """Whether the server runs its workers as child processes, so that PID 1 must reap orphans."""
    return program_name(command) in _FORKING or _workers(command) > 1


def _workers(command: Sequence[str]) -> int:
    """The number of workers in the command; 1 if it names none."""
    for index, word in enumerate(command):
        flag, separator, value = word.partition("=")
        if flag in _WORKER_FLAGS:
            value = value if separator else "".join(command[index + 1 : index + 2])
            return int(value) if value.isdecimal() else 1
    return 1


def _base(config: Config, lock: Lock) -> tuple[PlanBase, PlanReason]:
    name = base_name(config)
    base = PlanBase(name, base_reference(config), lock.record.digest)
    why = "standard manylinux wheels install without compiling; pinned by digest in mlship.lock"
    return base, PlanReason("base", name, why)


def _lock_reason(config: Config, lock: Lock) -> PlanReason:
    pins = count_of(len(lock.pins), "pinned package")
    return PlanReason(
        "lock", config.requirements.lock, f"{pins} with hashes, installed with --require-hashes --no-deps"
    )


def _pickles(config: Config) -> Iterator[PlanReason]:
    for allowed in config.model.allow_pickle:
        yield PlanReason("pickle", allowed.path, f"allowed in mlship.yaml: {allowed.reason}")


def _layers(lock: Lock, gpu: GpuPlan | None) -> tuple[tuple[PackageLayer, ...], PlanReason]:
    layers = package_layers(lock.pins, lock.record.sizes, gpu.compiled if gpu else ())
    count = Counter(layer.group for layer in layers)
    listed = ", ".join(f"{count[group]} {group}" for group in GROUPS if count[group])
    return layers, PlanReason("layers", listed or "none", "a package update changes one layer and no other")


def _bytecode(trace: Trace | None) -> tuple[Bytecode, PlanReason]:
    if trace is None:
        return "everything", PlanReason(
            "bytecode", "all modules", "imports have not been traced; run `mlship lock --trace`"
        )
    return "traced", PlanReason(
        "bytecode", count_of(trace.count, "module"), "those that the server imported when `mlship lock` traced it"
    )


def _version(config: Config, revision: Revision) -> tuple[str, PlanReason]:
    version = config.version or revision.image_tag or "dev"
    if config.version:
        why = "set in mlship.yaml"
    else:
        why = "from `git describe`" if revision.describe else "no git repository, and no `version` in mlship.yaml"
    return version, PlanReason("version", version, why)


def _weights(weights: tuple[WeightFile, ...]) -> tuple[tuple[WeightFolder, ...], PlanReason]:
    folders: dict[str, list[WeightFile]] = {}
    for weight in sorted(weights, key=lambda w: w.path):
        folders.setdefault(str(PurePosixPath(weight.path).parent), []).append(weight)
    found = tuple(
        WeightFolder(tuple(w.path for w in files), "" if folder == "." else folder, sum(w.size for w in files))
        for folder, files in folders.items()
    )
    count, size = len(weights), sum(weight.size for weight in weights)
    choice = f"{count_of(count, 'file')}, {size:,} bytes"
    return found, PlanReason("weights", choice, "in layers of their own, which a code change never touches")


def _init(command: Sequence[str]) -> tuple[bool, PlanReason]:
    if forks(command):
        return True, PlanReason("init", "tini", f"{command[0]} forks, and PID 1 must reap orphaned processes")
    return False, PlanReason("init", "none", f"{command[0]} runs as PID 1 and receives SIGTERM itself")


def _telemetry(pins: Iterable[Pin]) -> tuple[dict[str, str], tuple[PlanReason, ...]]:
    """Variables that turn off the telemetry of locked libraries."""
    switches = tuple(telemetry_of(pin.name for pin in pins))
    return {switch.variable: switch.value for switch in switches}, tuple(
        PlanReason("telemetry", f"{switch.variable}={switch.value}", f"turns telemetry off: {switch.source}")
        for switch in switches
    )


def _packages(system: System, gpu: GpuPlan | None, *, init: bool) -> DebianPackages:
    """Nvcc needs a C++ compiler, which the builder gets from Debian."""
    compiler = ("g++",) if gpu and gpu.devel else ()
    build = {*system.build, *compiler, *(("tini",) if init else ())}
    return DebianPackages(tuple(sorted(build)), tuple(sorted(system.run)))
