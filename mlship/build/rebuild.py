"""Builds a recorded image again: its commit in a temporary folder, its weights, the same build, and a comparison."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

from mlship import __version__
from mlship.build.preflight import smoke_device, split_tag
from mlship.build.prepare import Prepared, find_hosts, prepare
from mlship.build.record import Metadata, Weight
from mlship.build.report import BuildReport
from mlship.build.run import BuildOptions, Reporter, build
from mlship.engine.base import Engine, EngineInfo, ImageLayer, Manifest
from mlship.errors import BuildError, EngineError, UsageError
from mlship.files import sha256_file
from mlship.image.plan import BuildPlan
from mlship.project.checkout import read_checkout, temporary_worktree
from mlship.project.git import Revision
from mlship.project.load import FILE_NAME as CONFIG
from mlship.smoke.spec import Device

_HINT = "use the metadata file that was written for this commit"
_UNKNOWN = "unknown: mlship, engine, base, lock and weights are the same as for the recorded build"


@dataclass(frozen=True)
class RebuildOptions:
    """Options of the command line.

    Attributes:
        tag: name of the image; None: the recorded name with the commit as tag, so that no other image loses its name.
        smoke: device to test the image on; None: the one it is built for.
        proves: run the smoke test; otherwise the report says that nothing was proven.
    """

    tag: str | None = None
    smoke: Device | None = None
    proves: bool = True
    builder: str | None = None


@dataclass(frozen=True)
class ComparedLayer:
    """The digests of one recorded layer and its rebuilt counterpart; None if there is no such layer.

    Attributes:
        what: title of the step that made it.
    """

    what: str
    recorded: str | None
    rebuilt: str | None

    @property
    def same(self) -> bool:
        return self.recorded == self.rebuilt


@dataclass(frozen=True)
class RebuildReport:
    """The result of a rebuild.

    Attributes:
        same: both manifests have the same digest, so every byte of the image is the same.
        recorded: digest of the recorded manifest; rebuilt: of the new one. For a GPU image, without the proof label.
        tagged: recorded digest of the image with the proof label; None without such a label, or if unknown.
        layers: from the base up.
        reasons: why the images may differ, most likely first; empty if they are the same.
        build: the rebuild itself, with its proof.
    """

    same: bool
    recorded: str
    rebuilt: str
    layers: tuple[ComparedLayer, ...]
    reasons: tuple[str, ...]
    build: BuildReport
    tagged: str | None = None


def check_rebuildable(metadata: Metadata, name: str) -> Manifest:
    """The recorded manifest of a reproducible build.

    Args:
        name: name of the metadata file, for messages.

    Raises:
        UsageError: the build was not reproducible.
    """
    hint = "build with `mlship build --reproducible --metadata FILE` to be able to rebuild later"
    if metadata.source.dirty:
        raise UsageError(f"`{name}` records a build with uncommitted changes", hint=hint)
    if not metadata.reproducible or metadata.built is None or metadata.source.commit is None:
        raise UsageError(
            f"`{name}` records a build without --reproducible, so its digest cannot be reproduced", hint=hint
        )
    return metadata.built


def version_warning(metadata: Metadata) -> str | None:
    """A warning if another mlship built the image, because its Dockerfile and label differ; otherwise None."""
    then = metadata.tools.mlship
    if then == __version__:
        return None
    return (
        f"mlship {then} built the image, and this is mlship {__version__}: the digest will differ; "
        f"install mlship {then} to reproduce it"
    )


def rebuild(
    metadata: Metadata,
    repo: Path,
    engine: Engine,
    options: RebuildOptions,
    reporter: Reporter,
    warn: Callable[[str], None],
) -> RebuildReport:
    """Check out the commit into a temporary folder, add the weights, build, prove and compare.

    Args:
        repo: a folder of the git repository with the commit, and with the weights that git does not have.
        warn: receives the warnings of the build.

    Raises:
        UsageError: the repository lacks the commit or a weight file, or see check_rebuildable.
        MlshipError: see mlship.build.prepare and mlship.build.run.
    """
    built = check_rebuildable(metadata, "this")
    source = metadata.source
    reporter.step(f"checking out {(source.commit or '')[:12]} into a temporary folder")
    with temporary_worktree(repo, source.commit or "") as tree:
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
        commit, place = (metadata.source.commit or "")[:12], metadata.source.path or "its top folder"
        raise UsageError(f"the commit {commit} has no {CONFIG} in {place}", hint=_HINT)


def _here(repo: Path) -> Path:
    checkout = read_checkout(repo)
    return checkout.top if checkout else repo


def _prepare(metadata: Metadata, project: Path) -> Prepared:
    source = metadata.source
    revision = Revision(source.describe, source.commit, source.url, source.epoch)
    driver, capabilities = (host.driver, host.compute_capabilities) if (host := metadata.host) else (None, ())
    hosts = partial(find_hosts, project, driver=driver, capabilities=capabilities)
    prepared = prepare(project, metadata.platform, hosts, revision)
    record = prepared.lock.record
    if record.requirements != metadata.lock.requirements or record.digest != metadata.base.digest:
        raise UsageError(
            f"the lock in commit {(source.commit or '')[:12]} is not the one that the recorded image was built from",
            hint=_HINT,
        )
    return prepared


def place_weights(weights: tuple[Weight, ...], tree: Path, project: Path, here: Path) -> None:
    """Put the recorded weights into the checked-out project: the commit's own, or current files with the same hash.

    Raises:
        UsageError: neither exists.
    """
    for weight in weights:
        target, current = project / weight.path, here / weight.path
        if _hash(target) == weight.sha256:
            continue
        found = _hash(current)
        if found != weight.sha256:
            raise UsageError(
                f"the recorded `{weight.path}` is not in the commit, and `{current}` "
                f"{f'has another hash, {found}' if found else 'does not exist'} (expected {weight.sha256})",
                hint=f"download the recorded version to `{current}` ({weight.size:,} bytes) and run the command again",
            )
        _place(current, target, tree)


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _place(current: Path, target: Path, tree: Path) -> None:
    """A hard link takes no space; the build only reads it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(tree.resolve()):
        raise UsageError(f"{target.parent} leads out of the repository", hint=_HINT)
    target.unlink(missing_ok=True)
    try:
        os.link(current.resolve(), target)
    except OSError:
        shutil.copyfile(current, target)


def _options(metadata: Metadata, prepared: Prepared, asked: RebuildOptions) -> BuildOptions:
    return BuildOptions(
        tags=(asked.tag or f"{split_tag(metadata.tag)[0]}:rebuild-{(metadata.source.commit or '')[:12]}",),
        smoke=smoke_device(prepared, asked.smoke) if asked.proves else None,
        builder=asked.builder,
        compression=metadata.compression,
        reproducible=True,
    )


def _build(prepared: Prepared, engine: Engine, options: BuildOptions, reporter: Reporter) -> BuildReport:
    try:
        return build(prepared, engine, options, reporter)
    except BuildError as error:
        if error.cause != "digest-missing":
            raise
        raise BuildError(
            error.message,
            hint="set MLSHIP_BASE_MIRROR to a registry with the base image, or push it from a machine that has it",
            cause=error.cause,
        ) from error


def _compare(
    metadata: Metadata, recorded: Manifest, report: BuildReport, prepared: Prepared, engine: EngineInfo
) -> RebuildReport:
    """Compare the recorded and the rebuilt image layer by layer."""
    if report.built is None:
        raise EngineError("the engine reported no digest for the build", hint="update Docker Engine and buildx")
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
    what = "how the manifest lists them" if same_config else "labels, environment or command"
    return (f"every layer is the same; the difference is in {what}",)


def _causes(metadata: Metadata, plan: BuildPlan, engine: EngineInfo) -> Iterator[str]:
    if warning := version_warning(metadata):
        yield warning
    if packages := sorted({*plan.packages.build, *plan.packages.run}):
        yield f"Debian packages are not locked, and may have new versions: {', '.join(packages)}"
    if plan.gpu and plan.gpu.compiled:
        yield f"{', '.join(plan.gpu.compiled)} was compiled again, and compilers rarely produce the same bytes"
    then = (metadata.tools.engine, metadata.tools.buildx)
    if then != (engine.version, engine.buildx):
        yield (
            f"Docker Engine {then[0]} and buildx {then[1]} built the recorded image, {engine.version} and "
            f"{engine.buildx} this one: other versions may compress the same files to other digests"
        )
