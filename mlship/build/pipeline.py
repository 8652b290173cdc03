"""The flow as named steps: lock -> plan -> render, all pure; then build -> smoke -> push, by the engine it is given.

Nothing is pushed that the smoke test did not pass.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mlship.build.able import check_keeps_manifests, check_testable
from mlship.engine.base import BuildRequest, BuildWatcher, Compression, Engine, ImageInfo, Manifest
from mlship.errors import EngineError, LockError, MlshipError, UsageError
from mlship.image.context import build_context, wheelhouses
from mlship.image.disk import disk_needed
from mlship.image.dockerfile import copied, dockerfile, dockerignore, quote, titles
from mlship.image.labels import PROOF
from mlship.image.plan import BuildPlan, make_plan
from mlship.image.titles import named_layers, retitled
from mlship.lock.check import Lock, check_lock
from mlship.lock.cuda_names import brings_cuda
from mlship.lock.record import Trace
from mlship.lock.trace import read_trace
from mlship.project.base import PLATFORMS, this_platform
from mlship.project.config import Config
from mlship.project.git import Revision, read_revision
from mlship.project.load import load_config
from mlship.project.paths import behind_links, check_paths
from mlship.project.weights import check_weights
from mlship.resources import cache_folder, read_template
from mlship.smoke.observed import Device
from mlship.smoke.result import SmokeReport
from mlship.smoke.spec import SmokeSpec
from mlship.units import size

if TYPE_CHECKING:
    from mlship.cuda.hosts.profile import Fleet
    from mlship.image.gpu_plan import Matched

FindFleet: TypeAlias = Callable[[Config], "Fleet | None"]


@dataclass(frozen=True)
class Prepared:
    """What is known before any engine is asked.

    Attributes:
        revision: what the image's labels say of git.
        linked: files that symbolic links among the plan's lead to; the engine must see them too.
        warnings: what is worth knowing before the build and stops nobody.
        fleet: the hosts that CUDA is matched to; None for the CPU.
    """

    repo: Path
    config: Config
    lock: Lock
    plan: BuildPlan
    revision: Revision
    linked: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    fleet: "Fleet | None" = None

    @cached_property
    def dockerfile(self) -> str:
        """Its text; rendered when it is asked for, which `mlship plan` does not."""
        return dockerfile(self.plan)

    @cached_property
    def dockerignore(self) -> str:
        """The text of the .dockerignore that belongs to it."""
        return dockerignore(self.plan, self.linked)


@dataclass(frozen=True)
class BuildOptions:
    """What the command line adds to mlship.yaml.

    Attributes:
        tag: replaces the plan's name and version.
        smoke: what to test the image on; None tests nothing, so that nothing is proven, and the report says so.
        compression: of the layers; reproducible: see BuildRequest.
    """

    tag: str | None = None
    push: bool = False
    smoke: Device | None = "cpu"
    builder: str | None = None
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    compression: Compression = "zstd"
    reproducible: bool = False


@dataclass(frozen=True)
class BuildReport:
    """What came of a build.

    Attributes:
        size: bytes of the image, as the engine counts them.
        image_id: of the image as it is tagged: the tested one (`smoke.image_id`), for GPUs with a label more.
        smoke: None where it was not asked for; then nothing is proven.
        digest: of the pushed image in its registry.
        build_s: seconds of the image build; smoke_s of the smoke test.
        manifest: digest of the image in the engine, which it keeps in a registry; None where the engine keeps none.
        built: of a reproducible build, what was built; for GPUs, before the label of the proof.
    """

    tag: str
    image_id: str
    platform: str
    base: str
    size: int
    build_s: float
    smoke_s: float | None
    smoke: SmokeReport | None
    digest: str | None
    manifest: str | None = None
    built: Manifest | None = None


class Reporter(Protocol):
    """Who is told how far the pipeline is."""

    def step(self, text: str) -> None:
        """A named step begins."""
        ...

    def warn(self, text: str) -> None:
        """Something that stops nobody and should be known."""
        ...

    def building(self) -> AbstractContextManager[BuildWatcher]:
        """The image build begins; the watcher gets its events."""
        ...


def prepare(
    repo: Path,
    target: str | None = None,
    find_fleet: FindFleet = lambda _config: None,
    revision: Revision | None = None,
) -> Prepared:
    """Everything up to the Dockerfile: pure but for reading the repository, and the host where no file names one.

    Args:
        target: the platform instead of mlship.yaml's; the lock must have been made for it.
        find_fleet: the hosts that CUDA is matched to, for a project on GPUs.
        revision: what the image's labels say of git, instead of what git says now.

    Raises:
        UsageError, LockError: see mlship.project and mlship.lock.
        MatchError: what is asked for or locked does not run on the hosts.
    """
    config = _for_platform(load_config(repo), target)
    check_paths(repo, config)
    weights = check_weights(repo, config.model)
    fleet = find_fleet(config)
    try:
        lock = _checked_lock(repo, config, target, _chosen(repo, config, fleet))
        matched = _matched(config, lock, fleet)
    except LockError as error:  # a lock for the host of the command line is made for it by the same options
        options = fleet.options if fleet else ""
        raise LockError(error.message, hint=error.hint.replace("`mlship lock`", f"`mlship lock{options}`")) from error
    smoke = SmokeSpec.from_config(config).to_json()
    revision = revision or read_revision(repo)
    plan = make_plan(config, lock, weights, revision, smoke, gpu=matched.plan if matched else None)
    if matched:
        plan = replace(plan, reasons=(*plan.reasons, *matched.reasons))
    warnings = matched.warnings if matched else _unwanted(config, lock)
    return Prepared(repo, config, lock, plan, revision, behind_links(repo, copied(plan)), warnings, fleet)


# What matches CUDA is imported where a project has to do with GPUs: no other one waits for it.


def _chosen(repo: Path, config: Config, fleet: "Fleet | None") -> str | None:
    if fleet is None:
        return None
    from mlship.image.gpu_plan import chosen

    return chosen(repo, config, fleet)


def _matched(config: Config, lock: Lock, fleet: "Fleet | None") -> "Matched | None":
    if fleet is None:
        return None
    from mlship.image.gpu_plan import match_to

    return match_to(config, lock, fleet)


def _unwanted(config: Config, lock: Lock) -> tuple[str, ...]:
    if not brings_cuda(lock.pins):
        return ()
    from mlship.image.gpu_plan import unwanted_cuda

    return unwanted_cuda(config, lock)


def build(prepared: Prepared, engine: Engine, options: BuildOptions, reporter: Reporter) -> BuildReport:
    """Build the image, prove it, push it.

    Raises:
        EngineError, BuildError, TransientError: from the engine.
        UsageError: the image cannot be tested here, as it is for another platform.
    """
    if options.reproducible:
        check_keeps_manifests(engine)
    tag = options.tag or prepared.plan.tag
    _look_at_disk(prepared, engine, reporter)
    reporter.step(f"building {tag}")
    started = time.monotonic()
    manifest = _build(prepared, engine, tag, options, reporter)
    built = time.monotonic()
    image = engine.image(tag)
    if image is None:
        raise EngineError(
            f"the build ended well, but the engine has no image {tag}",
            hint="a --builder of another engine keeps its images to itself; build without --builder",
        )
    report = _prove(prepared, engine, tag, options, reporter)
    proven = time.monotonic()
    labelled = _labelled(prepared, engine, tag, report) or image
    digest = _push(engine, tag, report, options, reporter)
    return BuildReport(
        tag=tag,
        image_id=labelled.id,
        platform=image.platform,
        base=prepared.plan.base.pinned,
        size=image.size,
        build_s=built - started,
        smoke_s=proven - built if report else None,
        smoke=report,
        digest=digest,
        manifest=labelled.digest,
        built=manifest,
    )


def smoke_device(prepared: Prepared, asked: Device | None) -> Device:
    """What to test on: what is asked for, else what the image is made for.

    Raises:
        UsageError: the image is not made for a GPU.
    """
    if asked == "gpu" and prepared.plan.gpu is None:
        raise UsageError(
            "--smoke gpu: this image is not made for a GPU", hint="add `gpu:` to mlship.yaml, or leave --smoke out"
        )
    return asked or ("gpu" if prepared.plan.gpu else "cpu")


def request(prepared: Prepared, tag: str, options: BuildOptions) -> BuildRequest:
    """What the engine is asked to build, with what pip uses on this machine as secrets and local wheels."""
    # Imported here, as a plan needs none of them.
    from mlship.lock.gpu import with_pages
    from mlship.lock.indexes import project_settings
    from mlship.lock.pins import parse_lock
    from mlship.lock.secrets import build_secrets
    from mlship.lock.wheelhouse import stage

    settings = with_pages(project_settings(prepared.repo, prepared.config), _pages(prepared))
    installer = parse_lock(read_template("uv.txt"), "uv.txt")
    return BuildRequest(
        dockerfile=prepared.dockerfile,
        ignore=prepared.dockerignore,
        context=prepared.repo,
        platform=prepared.plan.platform,
        tag=tag,
        secrets=build_secrets(settings),
        contexts={
            name: stage(settings, pins, cache_folder())
            for name, pins in {"wheelhouse": installer, **wheelhouses(prepared.plan, prepared.lock)}.items()
        },
        folders={"packages": build_context(prepared.plan, prepared.lock, prepared.config)},
        builder=options.builder,
        cache_from=options.cache_from,
        cache_to=options.cache_to,
        epoch=prepared.plan.epoch,
        compression=options.compression,
        reproducible=options.reproducible,
    )


def trace(prepared: Prepared, engine: Engine, watch: BuildWatcher) -> Trace:
    """Let the server run once in the build, and note which modules it imports.

    Raises:
        UsageError: it does not become ready, or does not answer the sample; the message has its last words.
        EngineError, BuildError, TransientError: from the engine.
    """
    with tempfile.TemporaryDirectory(prefix="mlship-trace-") as folder:
        asked = request(prepared, prepared.plan.tag, BuildOptions())
        asked = replace(asked, tag=None, target="trace", export=Path(folder))
        engine.build(asked, retitled(watch, titles(prepared.dockerfile)))
        return read_trace((Path(folder) / "trace.json").read_bytes())


def _pages(prepared: Prepared) -> tuple[str, ...]:
    """Where the locked wheels of a CUDA lie, one page a package."""
    gpu = prepared.plan.gpu
    if gpu is None or gpu.index is None:
        return ()
    variant = gpu.index.rpartition("/")[2]
    return tuple(f"{gpu.index}/{pin.name}/" for pin in prepared.lock.pins if pin.version.endswith(f"+{variant}"))


def _look_at_disk(prepared: Prepared, engine: Engine, reporter: Reporter) -> None:
    """Say what may be needed and what is there: a full disk shows itself late, and as something else."""
    needed, disk = disk_needed(prepared.plan, prepared.lock.record.sizes), engine.disk()
    if needed is None or disk is None:
        return
    there = f"up to {size(needed)} of disk where nothing is cached, {size(disk.free)} free in {disk.path}"
    reporter.step(f"needs {there}")
    if disk.free < needed:
        reporter.warn(
            f"the disk may become full: needed are {there}\n"
            "`docker system df` says what lies there, `docker buildx prune` and `docker image prune` make room"
        )


def _checked_lock(repo: Path, config: Config, target: str | None, cuda: str | None) -> Lock:
    """`mlship lock` resolves for the platform of mlship.yaml, so that alone mends no lock for another one."""
    try:
        return check_lock(repo, config, cuda)
    except LockError as error:
        if target is None or "- platform " not in error.message:
            raise
        raise LockError(
            error.message, hint=f"set `platform: {target}` in mlship.yaml, then run `mlship lock` and commit both"
        ) from error


def _for_platform(config: Config, target: str | None) -> Config:
    if target is None or target == config.platform:
        return config
    if target not in PLATFORMS:
        raise UsageError(f"--platform {target} is not known", hint=f"use {' or '.join(PLATFORMS)}")
    return config.model_copy(update={"platform": target})


def _build(prepared: Prepared, engine: Engine, tag: str, options: BuildOptions, reporter: Reporter) -> Manifest | None:
    """Build. What the engine is, is asked where it matters only: that takes a third of a build with nothing changed."""
    if options.smoke and prepared.plan.platform != this_platform():
        check_testable(engine, prepared.plan.platform)  # before minutes of emulation, not after
    named = titles(prepared.dockerfile)
    try:
        with reporter.building() as watch:
            built = engine.build(request(prepared, tag, options), retitled(watch, named))
    except MlshipError:
        engine.info()  # what ails the engine explains best why it does not build
        raise
    if options.smoke:
        check_testable(engine, prepared.plan.platform)
    return named_layers(built, named) if built else None


def _prove(
    prepared: Prepared, engine: Engine, tag: str, options: BuildOptions, reporter: Reporter
) -> SmokeReport | None:
    if not options.smoke:
        return None
    from mlship.smoke.run import smoke

    reporter.step(f"smoke test of {tag}, as it will run")
    return smoke(engine, tag, SmokeSpec.from_config(prepared.config), reporter.step, device=options.smoke)


def _labelled(prepared: Prepared, engine: Engine, tag: str, report: SmokeReport | None) -> ImageInfo | None:
    """An image for GPUs says what it was proven on: the tested image with a label more, the same in every layer.

    Only afterwards, since what it was proven on is not known before; None where there is nothing to say.
    """
    if prepared.plan.gpu is None or report is None or not report.passed:
        return None
    with tempfile.TemporaryDirectory(prefix="mlship-label-") as empty:
        text = f"FROM {tag}\nLABEL {PROOF}={quote(report.device)}\n"
        request = BuildRequest(text, "", Path(empty), prepared.plan.platform, tag=tag, epoch=prepared.plan.epoch)
        engine.build(request, lambda _event: None)
    return engine.image(tag)


def _push(
    engine: Engine, tag: str, report: SmokeReport | None, options: BuildOptions, reporter: Reporter
) -> str | None:
    if not options.push or (report is not None and not report.passed):
        return None
    reporter.step(f"pushing {tag}")
    return engine.push(tag)
