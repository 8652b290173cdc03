"""One image for several platforms: built one by one, each proven that can run here, and joined in an index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlship.build.preflight import split_tag
from mlship.build.prepare import Prepared
from mlship.build.report import BuildReport
from mlship.build.run import BuildOptions, Reporter, build
from mlship.engine.base import Engine
from mlship.errors import UsageError
from mlship.project.base import platform_suffix
from mlship.registry.images import put_index


@dataclass(frozen=True)
class IndexReport:
    """The result of a build for several platforms.

    Attributes:
        requested: the names of the index.
        digests: of the index by its name; empty if an image failed its smoke test.
        images: one report for each platform.
        unproven: platforms whose image nothing proves.
    """

    requested: tuple[str, ...]
    digests: dict[str, str]
    images: tuple[BuildReport, ...]
    unproven: tuple[str, ...]


def build_index(prepared: Sequence[Prepared], engine: Engine, options: BuildOptions, reporter: Reporter) -> IndexReport:
    """Build, prove and push an image for each platform, and an index of them.

    Only the engine's own platform can be proven here. The index is made last, and not if an image fails.

    Raises:
        UsageError: nothing is to be pushed, or an image would be pushed untested without a word.
        EngineError, BuildError, TransientError: as for one image.
    """
    native = engine.info().platform
    _check(prepared, native, options)
    requested = options.tags or (prepared[0].plan.tag,)
    reports: dict[str, BuildReport] = {}
    for one in sorted(prepared, key=lambda one: one.plan.platform != native):  # what can fail its test comes first
        own = _options_for(one.plan.platform, native, options, requested)
        report = reports[one.plan.platform] = build(one, engine, own, reporter)
        if report.smoke is not None and not report.proven:
            return IndexReport(requested, {}, tuple(reports.values()), tuple(reports))
    platforms = tuple(one.plan.platform for one in prepared)
    digests = {}
    for position, name in enumerate(requested):
        reporter.step(f"pushing {name}, an index of {len(platforms)} platforms")
        images = {platform: reports[platform] for platform in platforms}
        digests[name] = put_index(name, {key: one.pushed[one.tags[position]] for key, one in images.items()})
    unproven = tuple(platform for platform in platforms if not reports[platform].proven)
    return IndexReport(requested, digests, tuple(reports[platform] for platform in platforms), unproven)


def _check(prepared: Sequence[Prepared], native: str, options: BuildOptions) -> None:
    if not options.push and not options.push_unproven:
        raise UsageError(
            "an image for several platforms exists only in a registry", hint="add `--push`, or name one platform"
        )
    foreign = [one.plan.platform for one in prepared if one.plan.platform != native]
    if foreign and not options.push_unproven:
        raise UsageError(
            f"an image for {', '.join(foreign)} cannot be tested here: this engine runs {native}",
            hint="add `--push-unproven` to push it untested; `mlship verify` refuses it until "
            "`mlship smoke IMAGE --attest` has passed on such a machine",
        )


def _options_for(platform: str, native: str, options: BuildOptions, requested: tuple[str, ...]) -> BuildOptions:
    """An image that can be tested is pushed only if it is proven."""
    named = (split_tag(name) for name in requested)
    tags = tuple(f"{repository}:{tag}-{platform_suffix(platform)}" for repository, tag in named)
    tested = options.smoke if platform == native else None
    return replace(options, tags=tags, smoke=tested, push=tested is not None, push_unproven=tested is None)
