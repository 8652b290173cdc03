"""The plan: everything that is built and why, as one frozen value with JSON both ways. Pure; no engine, no network."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from mlship.errors import UsageError
from mlship.frameworks import telemetry_of
from mlship.image.gpu import GpuPlan, PlanReason
from mlship.image.labels import labels
from mlship.image.serving import forks
from mlship.lock.check import Lock
from mlship.lock.groups import GROUPS, PackageLayer, package_layers
from mlship.project.base import base_name, base_reference
from mlship.project.config import Config, System
from mlship.project.git import Revision
from mlship.project.weights import WeightFile

Bytecode: TypeAlias = Literal["traced", "everything"]

SCHEMA = 2
# 1980-01-01, as in the layers: an image of no commit is of no date either, and the same whenever it is built.
NO_COMMIT = 315532800
USER = "1001:1001"
WORKDIR = "/app"


@dataclass(frozen=True)
class PlanBase:
    """The image underneath both stages."""

    name: str
    reference: str
    digest: str

    @property
    def pinned(self) -> str:
        """Name, tag and digest: what FROM says."""
        return f"{self.reference}@{self.digest}"


@dataclass(frozen=True)
class WeightFolder:
    """Weight files that lie in one folder: one layer.

    Attributes:
        folder: where they go, below the working directory.
        size: bytes.
    """

    files: tuple[str, ...]
    folder: str
    size: int


@dataclass(frozen=True)
class Health:
    """The HEALTHCHECK: asks the ready route; seconds."""

    url: str
    start_period: int


@dataclass(frozen=True)
class DebianPackages:
    """Debian packages: `build` only in the builder, `run` in the final image."""

    build: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """What `mlship build` builds.

    Attributes:
        tag: name and version of the image.
        lock: path of the requirements lock; `pins` counts what it installs.
        source: files and folders of code, sample and golden outputs with them.
        init: a tini is PID 1, because the server forks.
        layers: of packages, in their order.
        bytecode: compiled for the modules that a trace saw, or for everything.
        keep: patterns of files below site-packages that stay, although nobody loads them.
        epoch: SOURCE_DATE_EPOCH of the build: the commit's, or a fixed one where no commit is known.
        gpu: None for an image that is for the CPU.
    """

    tag: str
    platform: str
    python: str
    base: PlanBase
    lock: str
    pins: int
    weights: tuple[WeightFolder, ...]
    source: tuple[str, ...]
    packages: DebianPackages
    layers: tuple[PackageLayer, ...]
    bytecode: Bytecode
    keep: tuple[str, ...]
    env: dict[str, str]
    command: tuple[str, ...]
    init: bool
    port: int
    health: Health
    labels: dict[str, str]
    epoch: int
    reasons: tuple[PlanReason, ...]
    gpu: GpuPlan | None = None
    user: str = USER
    workdir: str = WORKDIR
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The plan as JSON; the same plan gives the same bytes."""
        return _adapter().dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str) -> "BuildPlan":
        """Read a plan back.

        Raises:
            UsageError: it is not a plan, or of another schema.
        """
        try:
            plan = _adapter().validate_json(text)
        except ValidationError as error:
            raise UsageError("this is not a plan of mlship", hint="make one with `mlship plan --json`") from error
        if plan.schema != SCHEMA:
            raise UsageError(f"this plan has schema {plan.schema}; known is {SCHEMA}", hint="make it anew")
        return plan


@cache
def _adapter() -> TypeAdapter[BuildPlan]:
    return TypeAdapter(BuildPlan)


def make_plan(
    config: Config,
    lock: Lock,
    weights: tuple[WeightFile, ...],
    revision: Revision,
    smoke: str,
    *,
    gpu: GpuPlan | None = None,
) -> BuildPlan:
    """Decide everything that the Dockerfile will say.

    Args:
        smoke: the smoke test's own description, for the image's labels.
        gpu: what the match of lock and hosts has decided; None for an image that is for the CPU.
    """
    base = PlanBase(base_name(config), base_reference(config), lock.record.digest)
    version = config.version or revision.image_tag or "dev"
    return BuildPlan(
        tag=f"{config.name}:{version}",
        platform=config.platform,
        python=config.python,
        base=base,
        lock=config.requirements.lock,
        pins=len(lock.pins),
        weights=_by_folder(weights),
        source=tuple(dict.fromkeys((*config.source, config.model.sample, *filter(None, (config.model.golden,))))),
        packages=_packages(config.system, gpu, init=forks(config.serve.command)),
        layers=package_layers(lock.pins, lock.record.sizes, gpu.compiled if gpu else ()),
        bytecode="traced" if lock.record.trace else "everything",
        keep=config.keep,
        env=_environment(config, lock, gpu),
        command=config.serve.command,
        init=forks(config.serve.command),
        port=config.serve.port,
        health=Health(f"http://127.0.0.1:{config.serve.port}{config.serve.ready}", round(config.serve.startup_seconds)),
        labels=labels(config, version, lock, revision, smoke),
        epoch=NO_COMMIT if revision.epoch is None else revision.epoch,
        reasons=tuple(_reasons(config, lock, weights, version, revision, gpu)),
        gpu=gpu,
    )


def _by_folder(weights: tuple[WeightFile, ...]) -> tuple[WeightFolder, ...]:
    """A COPY keeps file names but not folders, so each folder is a layer of its own."""
    folders: dict[str, list[WeightFile]] = {}
    for weight in sorted(weights, key=lambda w: w.path):
        folders.setdefault(str(PurePosixPath(weight.path).parent), []).append(weight)
    return tuple(
        WeightFolder(tuple(w.path for w in files), "" if folder == "." else folder, sum(w.size for w in files))
        for folder, files in folders.items()
    )


def _environment(config: Config, lock: Lock, gpu: GpuPlan | None) -> dict[str, str]:
    """What mlship sets and what mlship.yaml sets, which wins."""
    silent = {switch.variable: switch.value for switch in telemetry_of(pin.name for pin in lock.pins)}
    return dict(sorted({**silent, **(gpu.env if gpu else {}), **config.env}.items()))


def _packages(system: System, gpu: GpuPlan | None, *, init: bool) -> DebianPackages:
    """What nvcc leaves to a C++ compiler needs one, which the builder has from Debian."""
    compiler = ("g++",) if gpu and gpu.devel else ()
    build = {*system.build, *compiler, *(("tini",) if init else ())}
    return DebianPackages(tuple(sorted(build)), tuple(sorted(system.run)))


def _reasons(
    config: Config,
    lock: Lock,
    weights: tuple[WeightFile, ...],
    version: str,
    revision: Revision,
    gpu: GpuPlan | None,
) -> Iterator[PlanReason]:
    yield PlanReason("base", base_name(config), "glibc wheels install as they are; pinned by digest in mlship.lock")
    yield PlanReason(
        "lock",
        config.requirements.lock,
        f"{len(lock.pins)} pins with hashes, installed with --require-hashes --no-deps",
    )
    yield from _layer_reasons(config, lock, gpu)
    yield PlanReason("version", version, _why_version(config, revision))
    size = sum(weight.size for weight in weights)
    yield PlanReason(
        "weights",
        f"{len(weights)} {'file' if len(weights) == 1 else 'files'}, {size:,} bytes",
        "layers of their own: a source edit never moves them",
    )
    yield PlanReason(
        "user", USER, "numeric, so that Kubernetes can check that it is not root; it can write nowhere but /tmp"
    )
    if forks(config.serve.command):
        yield PlanReason("init", "tini", f"{config.serve.command[0]} forks, and PID 1 must reap what it leaves")
    else:
        yield PlanReason("init", "none", f"{config.serve.command[0]} is PID 1 itself, so SIGTERM reaches it")
    for switch in telemetry_of(pin.name for pin in lock.pins):
        yield PlanReason("telemetry", f"{switch.variable}={switch.value}", f"else it calls home: {switch.source}")
    for allowed in config.model.allow_pickle:
        yield PlanReason("pickle", allowed.path, f"allowed in mlship.yaml: {allowed.reason}")


def _layer_reasons(config: Config, lock: Lock, gpu: GpuPlan | None) -> Iterator[PlanReason]:
    layers = package_layers(lock.pins, lock.record.sizes, gpu.compiled if gpu else ())
    count = Counter(layer.group for layer in layers)
    listed = ", ".join(f"{count[group]} {group}" for group in GROUPS if count[group])
    yield PlanReason("layers", listed or "none", "a package that changes moves its own layer and no other")
    if lock.record.trace:
        modules = f"{lock.record.trace.count} modules"
        yield PlanReason(
            "byte code", modules, "what the server imported when `mlship lock` traced it; no other is needed"
        )
    else:
        yield PlanReason(
            "byte code", "everything", "nothing was traced, so nobody knows what is imported: run `mlship lock`"
        )
    if config.keep:
        yield PlanReason("keep", ", ".join(config.keep), "set in mlship.yaml")


def _why_version(config: Config, revision: Revision) -> str:
    if config.version:
        return "set in mlship.yaml"
    return "git describe" if revision.describe else "no git repository, and no version in mlship.yaml"
