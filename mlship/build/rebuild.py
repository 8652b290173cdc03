"""The image of some earlier day once more: its commit in a temporary folder, its weights, and the same build."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from mlship import __version__
from mlship.build.preflight import smoke_device
from mlship.build.prepare import FindFleet, Prepared, prepare
from mlship.build.record import Metadata, TargetHost, Weight
from mlship.build.run import BuildOptions, BuildReport, Reporter, build
from mlship.engine.base import Engine, EngineInfo, ImageLayer, Manifest
from mlship.errors import BuildError, EngineError, UsageError
from mlship.files import sha256_file
from mlship.image.plan import BuildPlan
from mlship.project.checkout import checked_out, read_checkout
from mlship.project.config import Config
from mlship.project.git import Revision
from mlship.project.load import FILE_NAME as CONFIG
from mlship.smoke.seen import Device

_UNKNOWN = "unknown: mlship, engine, base, lock and weights are as they were then"


@dataclass(frozen=True)
class RebuildOptions:
    """What the command line says of a rebuild.

    Attributes:
        tag: of the image; None: its own name, with the commit as its tag, so that no other image loses its name.
        smoke: what to test the image on; None: what it is made for.
        proves: test it at all; else nothing is proven, and the report says so.
    """

    tag: str | None = None
    smoke: Device | None = None
    proves: bool = True
    builder: str | None = None


@dataclass(frozen=True)
class ComparedLayer:
    """One layer then and now; None where there was none, or is none.

    Attributes:
        what: what made it.
    """

    what: str
    recorded: str | None
    rebuilt: str | None

    @property
    def same(self) -> bool:
        return self.recorded == self.rebuilt


@dataclass(frozen=True)
class RebuildReport:
    """What came of a rebuild.

    Attributes:
        same: the manifests have one digest: every byte of the image is as it was.
        recorded: digest of the manifest then; rebuilt: now. For GPUs, before the label of the proof was put on.
        tagged: digest then of the image with that label; None where it has none, and where nobody knows.
        layers: from the base up.
        reasons: why they may differ, likely ones first; empty where they do not.
        build: the rebuild itself, with what it proved.
    """

    same: bool
    recorded: str
    rebuilt: str
    layers: tuple[ComparedLayer, ...]
    reasons: tuple[str, ...]
    build: BuildReport
    tagged: str | None = None


def check_rebuildable(metadata: Metadata, name: str) -> Manifest:
    """What was built, if it can be built again.

    Args:
        name: of the metadata's file, for messages.

    Raises:
        UsageError: it was not reproducible.
    """
    hint = "build with `mlship build --reproducible --metadata FILE` what is to be built again later"
    if metadata.source.dirty:
        raise UsageError(f"{name} is of a build with changes that are in no commit, so nobody can repeat it", hint=hint)
    if not metadata.reproducible or metadata.built is None or metadata.source.commit is None:
        raise UsageError(f"{name} is of a build without --reproducible, which promised no digest", hint=hint)
    return metadata.built


def version_warning(metadata: Metadata) -> str | None:
    """Another mlship writes another Dockerfile and another label; None where it is the same."""
    then = metadata.tools.mlship
    if then == __version__:
        return None
    return (
        f"this is mlship {__version__}, and the image was built by mlship {then}: the digest will differ; "
        f"install mlship {then} for the same one"
    )


def _default_tag(metadata: Metadata) -> str:
    name, colon, tag = metadata.tag.rpartition(":")
    return f"{metadata.tag if '/' in tag or not colon else name}:rebuild-{(metadata.source.commit or '')[:12]}"


def rebuild(
    metadata: Metadata,
    repo: Path,
    engine: Engine,
    options: RebuildOptions,
    reporter: Reporter,
    warn: Callable[[str], None],
) -> RebuildReport:
    """Check out, fetch the weights, build, prove and compare; what was checked out is gone afterwards.

    Args:
        repo: a folder of the git repository that has the commit, and the weights where git has none.
        warn: hears what `mlship build` warns of.

    Raises:
        UsageError: the repository lacks the commit, a weight file has another hash, or see check_rebuildable.
        MlshipError: see mlship.build.prepare and mlship.build.run.
    """
    built = check_rebuildable(metadata, "this")
    source = metadata.source
    reporter.step(f"checking out {(source.commit or '')[:12]} into a temporary folder")
    with checked_out(repo, source.commit or "") as tree:
        project = tree / (source.path or "")
        _check_project(metadata, project)
        place_weights(metadata.weights, tree, project, _here(repo) / (source.path or ""))
        prepared = _prepare(metadata, project)
        for warning in prepared.warnings:
            warn(warning)
        report = _build(prepared, engine, _options(metadata, prepared, options), reporter)
        return _compare(metadata, built, report, prepared, engine.info())


def _check_project(metadata: Metadata, project: Path) -> None:
    if not (project / CONFIG).is_file():
        commit = (metadata.source.commit or "")[:12]
        raise UsageError(
            f"the commit {commit} has no {CONFIG} in {metadata.source.path or 'its top folder'}",
            hint="this metadata does not belong to that commit; look for another copy of it",
        )


def _here(repo: Path) -> Path:
    checkout = read_checkout(repo)
    return checkout.top if checkout else repo


def _prepare(metadata: Metadata, project: Path) -> Prepared:
    source = metadata.source
    revision = Revision(source.describe, source.commit, source.url, source.epoch)
    prepared = prepare(project, metadata.platform, _fleet_finder(project, metadata.host), revision)
    record = prepared.lock.record
    if record.requirements != metadata.lock.requirements or record.digest != metadata.base.digest:
        raise UsageError(
            f"the lock in commit {(source.commit or '')[:12]} is not the one that the image was built from",
            hint="this metadata does not belong to that commit; look for another copy of it",
        )
    return prepared


def _fleet_finder(project: Path, host: TargetHost | None) -> FindFleet:
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.cuda.hosts.profile import Fleet, named_fleet

    def find(config: Config) -> Fleet | None:
        if config.gpu is None:
            return None
        if host is not None:
            return named_fleet(host.driver, host.compute_capabilities, config.platform)
        return fleet_of(project, config.gpu.hosts)

    return find


def place_weights(weights: tuple[Weight, ...], tree: Path, project: Path, here: Path) -> None:
    """The recorded weights in the checked-out project: the commit's own, else the current ones of the same hash.

    Raises:
        UsageError: neither has the recorded file.
    """
    for weight in weights:
        target, current = project / weight.path, here / weight.path
        if _hash(target) == weight.sha256:
            continue
        found = _hash(current)
        if found != weight.sha256:
            raise UsageError(
                f"{weight.path} of the recorded build is not in the commit, and {current} "
                f"{f'has another content, {found}' if found else 'is not there'}; needed is {weight.sha256}",
                hint=f"fetch the model as it was then to {current} ({weight.size:,} bytes), "
                "and run the same command again",
            )
        _place(current, target, tree)


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _place(current: Path, target: Path, tree: Path) -> None:
    """A link costs no room where both lie on one disk; the build only reads it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(tree.resolve()):
        raise UsageError(f"{target.parent} leads out of the repository", hint="this metadata is not of that commit")
    target.unlink(missing_ok=True)
    try:
        os.link(current.resolve(), target)
    except OSError:
        shutil.copyfile(current, target)


def _options(metadata: Metadata, prepared: Prepared, asked: RebuildOptions) -> BuildOptions:
    return BuildOptions(
        tag=asked.tag or _default_tag(metadata),
        smoke=smoke_device(prepared, asked.smoke) if asked.proves else None,
        builder=asked.builder,
        compression=metadata.compression,
        reproducible=True,
    )


def _build(prepared: Prepared, engine: Engine, options: BuildOptions, reporter: Reporter) -> BuildReport:
    try:
        return build(prepared, engine, options, reporter)
    except BuildError as error:
        if "no longer has the locked digest" not in error.message:
            raise
        raise BuildError(
            error.message,
            hint="the base is gone from that registry: name one that keeps it by MLSHIP_BASE_MIRROR, or push the base "
            "from a machine that still has it",
        ) from error


def _compare(
    metadata: Metadata, recorded: Manifest, report: BuildReport, prepared: Prepared, engine: EngineInfo
) -> RebuildReport:
    """What was built then and now, layer by layer."""
    if report.built is None:
        raise EngineError("the engine told no digest of what it built", hint="update Docker Engine and buildx")
    rebuilt = report.built
    layers = tuple(_compared(then, now) for then, now in zip_longest(recorded.layers, rebuilt.layers))
    same = recorded.digest == rebuilt.digest
    reasons: tuple[str, ...] = ()
    if not same:
        shape = _shape(layers, same_config=recorded.config == rebuilt.config)
        reasons = (*shape, *(tuple(_causes(metadata, prepared.plan, engine)) or (_UNKNOWN,)))
    tagged = metadata.digest if metadata.digest != recorded.digest else None
    return RebuildReport(same, recorded.digest, rebuilt.digest, layers, reasons, report, tagged)


def _compared(then: ImageLayer | None, now: ImageLayer | None) -> ComparedLayer:
    what = now.what if now else then.what if then else ""
    return ComparedLayer(what, then.digest if then else None, now.digest if now else None)


def _shape(layers: tuple[ComparedLayer, ...], *, same_config: bool) -> tuple[str, ...]:
    if not all(layer.same for layer in layers):
        return ()
    what = "how they are listed" if same_config else "labels, environment or command"
    return (f"every layer is the same: what differs is {what}",)


def _causes(metadata: Metadata, plan: BuildPlan, engine: EngineInfo) -> Iterator[str]:
    if warning := version_warning(metadata):
        yield warning
    if packages := sorted({*plan.packages.build, *plan.packages.run}):
        yield f"Debian has other versions of {', '.join(packages)} now: they are not locked"
    if plan.gpu and plan.gpu.compiled:
        yield f"{', '.join(plan.gpu.compiled)} was compiled anew, and compilers seldom write the same bytes twice"
    then = (metadata.tools.engine, metadata.tools.buildx)
    if then != (engine.version, engine.buildx):
        yield (
            f"then Docker Engine {then[0]} and buildx {then[1]} built it, now {engine.version} and {engine.buildx}: "
            "one may compress in another way, which gives other digests for the same files"
        )
