"""Build the image, prove it with the smoke test, push it: the engine's part of `mlship build`.

An image is built under a name of this run, which no other run can move or remove. It gets the requested names only
after it has passed the smoke test, and its unproven name otherwise.
"""

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from packaging.utils import canonicalize_name

from mlship.background import in_background
from mlship.build.preflight import check_keeps_manifests, check_testable, disk_needed, split_tag, unproven_name
from mlship.build.prepare import Prepared
from mlship.engine.base import BuildEvent, BuildRequest, BuildWatcher, Compression, Disk, Engine, ImageInfo, Manifest
from mlship.errors import EngineError, MatchError, MlshipError, TransientError
from mlship.files import sha256_file
from mlship.image.context import build_context, wheelhouse
from mlship.image.dockerfile import quote
from mlship.image.labels import LAYERS, PROOF
from mlship.image.steps import step_titles
from mlship.image.titles import named_layers, retitled
from mlship.leftovers import own_image_name, temporary_folder
from mlship.lock.record import Trace
from mlship.lock.trace import read_trace
from mlship.project.base import this_platform
from mlship.project.testing import resolve_test_values
from mlship.resources import cache_folder
from mlship.smoke.spec import Device, SmokeSpec
from mlship.units import size

# Imported when the engine builds: what a report consists of takes as long to import as a small layer to build.
if TYPE_CHECKING:
    from mlship.build.report import BuildReport
    from mlship.smoke.result import SmokeReport


@dataclass(frozen=True)
class BuildOptions:
    """Options of the command line.

    Attributes:
        tags: names of the image; empty: the plan's name and version.
        push: push the image if it is proven; push_unproven: push it in any case, labelled if it is not.
        smoke: device to test the image on; None skips the smoke test, and the report says so.
        compression: compression of the layers.
        reproducible: see BuildRequest.
    """

    tags: tuple[str, ...] = ()
    push: bool = False
    push_unproven: bool = False
    smoke: Device | None = "cpu"
    builder: str | None = None
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    compression: Compression = "zstd"
    reproducible: bool = False


class Reporter(Protocol):
    """Receives the progress of a build."""

    def step(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        """Report a problem that does not stop the build."""

    def building(self) -> AbstractContextManager[BuildWatcher]:
        """Return a watcher for the events of the image build."""


def build(
    prepared: Prepared,
    engine: Engine,
    options: BuildOptions,
    reporter: Reporter,
    disk: Future[Disk | None] | None = None,
) -> "BuildReport":
    """Build the image, prove it, push it.

    Args:
        disk: the engine's disk, if it has been asked for already.

    Raises:
        EngineError, BuildError, TransientError: from the engine.
        UsageError: the image is for another platform, so it cannot be tested here.
    """
    names = [own_image_name()]
    try:
        report = _build_and_prove(prepared, engine, names[0], options, reporter, disk)
        if report.tags == report.requested:
            names.append(unproven_name(report.tag))  # of an earlier build that failed
        return report
    finally:
        with suppress(MlshipError):  # the next run removes them
            engine.untag(*names)


def _build_and_prove(
    prepared: Prepared,
    engine: Engine,
    own: str,
    options: BuildOptions,
    reporter: Reporter,
    disk: Future[Disk | None] | None,
) -> "BuildReport":
    if options.reproducible:
        check_keeps_manifests(engine)
    requested = options.tags or (prepared.plan.tag,)
    disk = disk or in_background(engine.disk)  # takes as long as preparing the request
    wanted = request(prepared, own, options)
    _check_disk(prepared, disk.result(), reporter)
    reporter.step(f"building {requested[0]}")
    started = time.monotonic()
    manifest = _build(prepared, engine, wanted, options, reporter)
    built = time.monotonic()
    history = in_background(lambda: engine.history(own))  # takes as long as looking at the image and naming it
    image = _built(engine, own)
    from mlship.build.report import BuildReport, largest_added

    report = _prove(prepared, engine, own, options, reporter)
    tested = time.monotonic()
    proven = report is not None and report.passed
    labelled = _labelled(prepared, engine, own, image, _proof(prepared, report, options))
    tags = requested if proven or options.push_unproven else (unproven_name(requested[0]),)
    for tag in tags:
        engine.tag(own, tag)
    largest = largest_added(prepared.plan, history.result())  # before the push: an error must not hide what was pushed
    pushed = _push(engine, tags, labelled, reporter) if options.push_unproven or (options.push and proven) else {}
    attestation = _attest(prepared, engine, pushed, report, reporter) if pushed and report and proven else None
    return BuildReport(
        tag=tags[0],
        tags=tags,
        requested=requested,
        proven=proven,
        image_id=labelled.id,
        platform=image.platform,
        base=prepared.plan.base.pinned,
        size=image.size,
        build_s=built - started,
        smoke_s=tested - built if report else None,
        smoke=replace(report, image=tags[0]) if report else None,
        digest=pushed.get(tags[0]),
        attestation=attestation,
        pushed=pushed,
        manifest=labelled.digest,
        built=manifest,
        largest=largest,
    )


def _built(engine: Engine, own: str) -> ImageInfo:
    image = engine.image(own)
    if image is None:
        raise EngineError(
            "the build succeeded, but the engine does not have the image",
            hint="build in the engine itself: `mlship build --builder default`",
        )
    return image


def request(prepared: Prepared, tag: str, options: BuildOptions) -> BuildRequest:
    """The engine's build request; pip's settings on this machine become secrets and local wheels."""
    # Imported here: a plan needs none of them.
    from mlship.lock.gpu import can_reach, with_pages
    from mlship.lock.indexes import project_settings
    from mlship.lock.secrets import build_secrets
    from mlship.lock.wheelhouse import stage

    own = project_settings(prepared.repo, prepared.config)
    pages = _pages(prepared)
    if prepared.plan.gpu is None and pages and not can_reach(own, pages):
        pages = ()  # the project's own indexes may have the CPU builds too
    settings = with_pages(own, pages)
    return BuildRequest(
        dockerfile=prepared.dockerfile,
        ignore=prepared.dockerignore,
        context=prepared.repo,
        platform=prepared.plan.platform,
        tag=tag,
        secrets=build_secrets(settings),
        contexts={"wheelhouse": stage(settings, wheelhouse(prepared.plan, prepared.lock), cache_folder())},
        folders={"packages": build_context(prepared.plan, prepared.lock, prepared.config)},
        builder=options.builder,
        cache_from=options.cache_from,
        cache_to=options.cache_to,
        epoch=prepared.plan.epoch,
        compression=options.compression,
        reproducible=options.reproducible,
    )


def trace(prepared: Prepared, engine: Engine, watch: BuildWatcher) -> Trace:
    """Run the server once in a build, and return the modules it imports.

    Raises:
        UsageError: the server does not become ready or does not answer the sample; the message has its last output.
        EngineError, BuildError, TransientError: from the engine.
    """
    with temporary_folder("trace") as folder:
        image = request(prepared, prepared.plan.tag, BuildOptions())
        values = json.dumps(_test_values(prepared)).encode()
        secrets = {**image.secrets, "mlship-test-env": values}
        files = build_context(prepared.plan, prepared.lock, prepared.config, tracing=True)
        traced = replace(image, tag=None, target="trace", export=folder, secrets=secrets, folders={"packages": files})
        titles = step_titles(replace(prepared.plan, bytecode="traced"))  # nothing that is not imported is compiled
        engine.build(traced, retitled(watch, titles))
        return read_trace((folder / "trace.json").read_bytes())


def _test_values(prepared: Prepared) -> dict[str, str]:
    return resolve_test_values(prepared.config.smoke.env, os.environ)


def _pages(prepared: Prepared) -> tuple[str, ...]:
    """The index page of each locked wheel for the plan's CUDA, or of PyTorch for the CPU."""
    gpu = prepared.plan.gpu
    if gpu is None:
        if not any("+" in pin.version for pin in prepared.lock.pins):
            return ()  # without the time to read the tables of CUDA
        from mlship.cuda.fit.target import locked_cpu_pages

        return locked_cpu_pages(prepared.lock.pins)
    if gpu.index is None:
        return ()
    variant = gpu.index.rpartition("/")[2]
    return tuple(f"{gpu.index}/{pin.name}/" for pin in prepared.lock.pins if pin.version.endswith(f"+{variant}"))


def _check_disk(prepared: Prepared, disk: Disk | None, reporter: Reporter) -> None:
    """Report the disk that a build may need: a full disk shows late, and as some other error."""
    needed = disk_needed(prepared.plan, prepared.lock.record.sizes)
    if needed is None or disk is None:
        return
    estimate = f"needs up to {size(needed)} of disk without a build cache; {size(disk.free)} free in {disk.path}"
    reporter.step(estimate)
    if disk.free < needed:
        reporter.warn(
            f"the disk may fill up: the build {estimate}\n"
            "`docker system df` shows what uses it; `docker buildx prune` and `docker image prune` free space"
        )


def _build(
    prepared: Prepared, engine: Engine, wanted: BuildRequest, options: BuildOptions, reporter: Reporter
) -> Manifest | None:
    """Build, while the engine says what it is: that takes a third of a fully cached build."""
    if options.smoke:
        _test_values(prepared)  # before the build, not after
    named = step_titles(prepared.plan)
    info = in_background(engine.info) if options.smoke else None
    if info and prepared.plan.platform != this_platform():
        check_testable(info.result(), prepared.plan.platform)  # before minutes of emulation, not after
    try:
        with reporter.building() as watch:
            built = engine.build(wanted, retitled(_importing(watch), named))
    except MlshipError:
        _ = info.result() if info else engine.info()
        raise  # unless the engine is broken, which explains a failed build best
    if info:
        check_testable(info.result(), prepared.plan.platform)
    return named_layers(built, named) if built else None


def _importing(watch: BuildWatcher) -> BuildWatcher:
    """A watcher that imports what the report needs at the first event: meanwhile, the engine builds."""

    def hear(event: BuildEvent) -> None:
        import mlship.build.report  # noqa: F401

        watch(event)

    return hear


def _prove(
    prepared: Prepared, engine: Engine, tag: str, options: BuildOptions, reporter: Reporter
) -> "SmokeReport | None":
    if not options.smoke:
        return None
    from mlship.smoke.run import Bench, smoke

    reporter.step("testing the image as it will run in production")
    gpu = prepared.plan.gpu
    spec = SmokeSpec.from_config(prepared.config, gpu.architectures if gpu else ())
    values = _test_values(prepared)
    report = smoke(Bench(engine, tag, spec, reporter.step, device=options.smoke, env=values))
    _keep_code(prepared, report)
    return report


def _keep_code(prepared: Prepared, report: "SmokeReport") -> None:
    """Remember the device code of the installed wheels for later locks; libraries that were not read hide some."""
    if report.code is None or report.code.unread:
        return
    from mlship.lock.measured import CodeCache, recorded

    wheels, cache = prepared.lock.record.wheels, CodeCache(cache_folder(), prepared.plan.platform)
    for package in report.code.packages:
        if digest := wheels.get(canonicalize_name(package.name)):
            cache.keep(digest, recorded(package.code))


def _proof(prepared: Prepared, report: "SmokeReport | None", options: BuildOptions) -> str | None:
    """The proof label: where a GPU image was proven, or that nothing proves a pushed one; None for no label."""
    if report is not None and report.passed:
        return report.device if prepared.plan.gpu else None
    return "none" if options.push_unproven else None


def _labelled(prepared: Prepared, engine: Engine, tag: str, image: ImageInfo, proof: str | None) -> ImageInfo:
    """Add the labels that are known only after the build and the smoke test; every layer stays the same."""
    if proof is None:
        return image
    with temporary_folder("label") as empty:
        text = f"FROM {tag}\nLABEL {PROOF}={quote(proof)} {LAYERS}={image.layers}\n"
        request = BuildRequest(text, "", empty, prepared.plan.platform, tag=tag, epoch=prepared.plan.epoch)
        engine.build(replace(request, own_builder=True), lambda _event: None)
    return engine.image(tag) or image


def _push(engine: Engine, tags: tuple[str, ...], image: ImageInfo, reporter: Reporter) -> dict[str, str]:
    """Push every name; returns the digest of each in its registry.

    Raises:
        TransientError: another run took a name before it was pushed: what was pushed is not this image.
    """
    digests: dict[str, str] = {}
    for tag in tags:
        reporter.step(f"pushing {tag}")
        digests[tag] = engine.push(tag)
        found = engine.image(tag)
        if found is None or found.id != image.id:
            raise TransientError(
                f"another program gave `{tag}` to another image while it was pushed",
                hint="run `mlship build` again, with a `--tag` that only this job uses",
            )
        if digests[tag] != digests[tags[0]]:  # Docker's older image store writes a new manifest on each push
            reporter.warn(f"`{tag}` has another digest than `{tags[0]}`: {digests[tag]}")
    return digests


def _attest(
    prepared: Prepared, engine: Engine, pushed: Mapping[str, str], report: "SmokeReport", reporter: Reporter
) -> str:
    """Attach the proof in every repository; returns the digest of the first attestation."""
    from mlship.build.story import attach_story
    from mlship.proof.attach import attach_proof
    from mlship.proof.statement import resource

    reporter.step("attaching the proof")
    plan, version = prepared.plan, engine.info().version
    weights = tuple(resource(path, sha256_file(prepared.repo / path)) for path in plan.weight_paths)
    lock = resource(plan.lock, prepared.lock.record.requirements)
    materials = (resource(plan.base.reference, plan.base.digest), lock, *weights)
    one_per_repository = {(split_tag(tag)[0], digest): tag for tag, digest in reversed(tuple(pushed.items()))}
    attached = {
        tag: attach_proof(tag, digest, report, materials, version) for (_, digest), tag in one_per_repository.items()
    }
    images = [(tag, digest) for (_, digest), tag in one_per_repository.items()]
    _attach_promise(prepared, images, reporter)
    attach_story(prepared, engine, images, weights, reporter.step)
    return attached[next(iter(pushed))]


def _attach_promise(prepared: Prepared, pushed: list[tuple[str, str]], reporter: Reporter) -> None:
    from mlship.build.story import attach_promise, promise_yaml

    try:
        text = promise_yaml(prepared)
    except MatchError as error:
        reporter.warn(f"the image does not list the GPUs and drivers that run it: {error.message}")
        return
    if text:
        reporter.step("attaching the GPUs and drivers that run it")
        attach_promise(text, pushed)
