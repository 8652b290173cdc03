"""What `--reproducible` requires of a repository, and the metadata that `--metadata` records."""

from collections.abc import Iterator

from mlship import __version__
from mlship.build.prepare import Prepared
from mlship.build.record import BaseImage, LockHashes, Metadata, Proof, SourceCommit, TargetHost, Tools, Weight
from mlship.build.report import BuildReport
from mlship.build.run import BuildOptions
from mlship.cuda.hosts.profile import COMMAND_LINE, Fleet
from mlship.engine.base import EngineInfo
from mlship.errors import UsageError
from mlship.files import sha256_file
from mlship.image.plan import BuildPlan
from mlship.project.base import record_name
from mlship.project.checkout import outside_commit, read_checkout
from mlship.project.load import FILE_NAME as CONFIG
from mlship.project.paths import link_targets
from mlship.units import first_rows

_LEAVE = "or drop `--reproducible`"


def check_reproducible(prepared: Prepared) -> tuple[str, ...]:
    """Refuse a build that cannot be repeated from a commit.

    Returns:
        Warnings about what may differ in a rebuild.

    Raises:
        UsageError: there is no commit, files differ from it, or a GPU host is in no file.
    """
    checkout = read_checkout(prepared.repo)
    if checkout is None:
        raise UsageError(
            f"--reproducible: `{prepared.repo.resolve()}` has no commit to rebuild from",
            hint=f"commit it (`git init`, `git add`, `git commit`), {_LEAVE}",
        )
    if checkout.changed:
        raise UsageError(
            f"--reproducible: these files have uncommitted changes:{_listed(checkout.changed)}",
            hint=f"commit them, put them aside with `git stash`, {_LEAVE}",
        )
    if unknown := _not_committed(prepared):
        raise UsageError(
            f"--reproducible: these files go into the image but are not committed:{_listed(unknown)}",
            hint=f"commit them (`git add`, `git commit`), remove them from `source` in mlship.yaml, {_LEAVE}",
        )
    _check_hosts(prepared.fleet)
    return tuple(_doubts(prepared.plan))


def _not_committed(prepared: Prepared) -> list[str]:
    """Files of the image that are not committed. Weights may come from anywhere: they are recorded by hash."""
    inputs = [key.removeprefix("file ") for key in prepared.lock.record.inputs if key.startswith("file ")]
    hosts = [prepared.config.gpu.hosts] if prepared.config.gpu and prepared.fleet and prepared.fleet.committed else []
    sources = prepared.plan.source
    locks = (record_name(prepared.config), prepared.plan.lock)
    paths = (CONFIG, *locks, *inputs, *hosts, *sources, *link_targets(prepared.repo, sources))
    return [path for path in outside_commit(prepared.repo, paths) if path not in prepared.plan.weight_paths]


def _listed(paths: tuple[str, ...] | list[str]) -> str:
    return "".join(f"\n- {path}" for path in first_rows(paths, 5))


def _check_hosts(fleet: Fleet | None) -> None:
    if fleet is None or fleet.committed or fleet.origin == COMMAND_LINE:
        return
    raise UsageError(
        f"--reproducible: CUDA is matched to {fleet.origin}, which another machine cannot do",
        hint="record it with `mlship hosts record hosts/NAME.json` and commit the file, "
        "or name a host with --driver and --compute-capability",
    )


def _doubts(plan: BuildPlan) -> Iterator[str]:
    if packages := sorted({*plan.packages.build, *plan.packages.run}):
        yield (
            f"Debian packages are not locked ({', '.join(packages)}): "
            "the digest changes when Debian has a newer version"
        )
    if plan.gpu and plan.gpu.compiled:
        yield f"compilers rarely produce the same bytes twice ({', '.join(plan.gpu.compiled)}): the digest may differ"


def build_metadata(prepared: Prepared, report: BuildReport, options: BuildOptions, engine: EngineInfo) -> Metadata:
    """The metadata of a successful build; reads all weights to hash them.

    Raises:
        OSError: a weight file cannot be read.
    """
    plan, record, smoke = prepared.plan, prepared.lock.record, report.smoke
    weights = ((path, prepared.repo / path) for path in plan.weight_paths)
    return Metadata(
        tag=report.tag,
        platform=plan.platform,
        image_id=report.image_id,
        digest=report.manifest,
        pushed=report.digest,
        reproducible=options.reproducible,
        compression=options.compression,
        source=_source(prepared),
        base=BaseImage(plan.base.reference, plan.base.digest),
        lock=LockHashes(record.requirements, sha256_file(prepared.repo / record_name(prepared.config))),
        weights=tuple(Weight(path, sha256_file(file), file.stat().st_size) for path, file in weights),
        built=report.built,
        proven=Proof(smoke.device, smoke.gpus, smoke.driver) if smoke else None,
        tools=Tools(__version__, engine.version, engine.buildx),
        host=_host(prepared.fleet),
    )


def _source(prepared: Prepared) -> SourceCommit:
    revision = prepared.revision
    checkout = read_checkout(prepared.repo)
    return SourceCommit(
        commit=revision.commit,
        describe=revision.describe,
        url=revision.source,
        path=checkout.path if checkout else None,
        dirty=bool(checkout.changed) if checkout else None,
        epoch=prepared.plan.epoch,
    )


def _host(fleet: Fleet | None) -> TargetHost | None:
    if fleet is None or fleet.committed:
        return None
    (host,) = fleet.hosts
    return TargetHost(host.driver, tuple(gpu.capability for gpu in host.gpus if gpu.capability))
