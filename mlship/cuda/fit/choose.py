"""Which CUDA to resolve for: the newest release of each requested package whose CUDA runs on every host. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlship.cuda.fit.judge import Outcome, Stack, Verdict, judge_stack, offered_by, worst
from mlship.cuda.fit.needs import stack_of
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.lookup import release_of, tables, wheel_index
from mlship.cuda.tables.rows import Release, Variant
from mlship.cuda.versions import Cuda, Driver
from mlship.frameworks import framework_table
from mlship.lock.inputs import InputFile
from mlship.lock.pages import release_in
from mlship.project.config import Config
from mlship.requirement_line import marker_may_hold


@dataclass(frozen=True)
class PackageRequest:
    """A package that requirements or constraints name.

    Attributes:
        name: canonical (PEP 503).
        specifier: all specifiers of its lines together.
        extras: sorted.
    """

    name: str
    specifier: SpecifierSet
    extras: tuple[str, ...] = ()

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras}{self.specifier}"


@dataclass(frozen=True)
class Pick:
    """One package, with the release band and the variant picked for it.

    Attributes:
        release: the band.
        cuda: the version of its libraries: its own, or what the hosts offer where an image has to bring them.
        built: the CUDA that it was built with, or the oldest that it works with.
        open: wheels bring the libraries, and the lock decides which minor version of CUDA's major they are.
        indexed: the variant is on the wheel index and not on PyPI.
        extras: those with which wheels bring the libraries.
        limit: the requirement that keeps to this band; None where the tables know no end of it.
    """

    package: str
    release: Release
    variant: str
    cuda: Cuda
    built: Cuda
    open: bool
    indexed: bool
    extras: tuple[str, ...]
    limit: str | None
    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        """For messages, such as "torch<2.15 cu126"."""
        return f"{self.limit or self.package} {self.variant}"

    @property
    def outcome(self) -> Outcome:
        return worst(verdict.outcome for verdict in self.verdicts)

    @property
    def blocked(self) -> tuple[Verdict, ...]:
        """The verdicts of the hosts that it does not run on."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "refused")

    @property
    def outright(self) -> bool:
        """Every host's driver supports this CUDA without minor-version compatibility, or can read its kernels."""
        kinds = {reason.kind for verdict in self.verdicts for reason in verdict.reasons}
        readable = {variant.name for variant in self.release.variants if variant.uncompressed}
        return "minor-version" not in kinds or self.variant in readable


@dataclass(frozen=True)
class Choice:
    """What to resolve for.

    Attributes:
        picks: empty where no requested package has CUDA variants, or where nothing runs.
        refused: where no combination runs, the candidate of each package that is nearest to running; else empty.
        others: the other refused candidates, in the order of preference.
    """

    picks: tuple[Pick, ...]
    refused: tuple[Pick, ...] = ()
    others: tuple[Pick, ...] = ()

    @property
    def cuda(self) -> str:
        """The newest CUDA among the picks, which share a major; only the major where the lock decides the rest."""
        decided = [pick.cuda for pick in self.picks if not pick.open]
        return str(max(decided)) if decided else ", ".join(sorted({str(pick.built.major) for pick in self.picks}))

    @property
    def variant(self) -> str | None:
        """The folder of the wheel index that wheels are taken from; None for PyPI alone."""
        return next((pick.variant for pick in self.picks if pick.indexed), None)

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(pick.limit for pick in self.picks if pick.limit)

    @property
    def key(self) -> str:
        """The choice on one line, as mlship.lock keeps it: "12.6: torch<2.15 cu126 from the wheel index"."""
        parts = (f"{pick}{' from the wheel index' if pick.indexed else ''}" for pick in self.picks)
        return f"{self.cuda}: {', '.join(parts)}" if self.picks else "nothing to choose"


def read_requests(files: Iterable[InputFile], config: Config) -> tuple[PackageRequest, ...]:
    """Every package that requirements and constraints files name for the image's platform and Python, by name."""
    found: dict[str, PackageRequest] = {}
    for requirement in (one for file in files for _, one in file.requirements()):
        if requirement.marker and not marker_may_hold(requirement.marker, config.platform, config.python):
            continue
        name = canonicalize_name(requirement.name)
        before = found.get(name, PackageRequest(name, SpecifierSet()))
        extras = tuple(sorted({*before.extras, *requirement.extras}))
        wheel = release_in(requirement.url or "")
        specifier = SpecifierSet(f"=={wheel[1]}") if wheel else requirement.specifier
        found[name] = PackageRequest(name, before.specifier & specifier, extras)
    return tuple(found[name] for name in sorted(found))


def choose(
    requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str, *, compat: bool = False, indexed: bool = True
) -> Choice:
    """Choose a release and a variant for each requested package.

    The newest release that the request allows comes first; among its variants, the newest CUDA that every host runs.
    All packages get the same CUDA major.

    Args:
        platform: of the image, such as linux/amd64.
        compat: the image will contain NVIDIA's forward-compatibility libraries.
        indexed: builds that only the wheel index has may be chosen.
    """
    found = [tuple(_candidates(request, fleet, platform, compat=compat)) for request in _with_torch(requests)]
    wanted = [picks for picks in found if picks]
    running = [
        [pick for pick in picks if pick.outcome != "refused" and (indexed or not pick.indexed)] for picks in wanted
    ]
    for combination in sorted(product(*(enumerate(picks) for picks in running)), key=_rank):
        picks = tuple(pick for _, pick in combination)
        if len({pick.built.major for pick in picks}) <= 1:
            return Choice(picks)
    nearest = tuple(min(picks, key=_distance) for picks in wanted)
    others = (pick for picks in wanted for pick in picks if pick.blocked and pick not in nearest)
    return Choice((), nearest, tuple(others))


def limits_without_index(
    choice: Choice, requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str, *, compat: bool = False
) -> tuple[str, ...]:
    """Requirements with which the hosts need nothing from the wheel index; empty where none are known."""
    if choice.variant is None:
        return ()
    limits = choose(requests, fleet, platform, compat=compat, indexed=False).limits
    added = {name: SpecifierSet(limit.removeprefix(name)) for limit in limits for name in [Requirement(limit).name]}
    limited = tuple(replace(each, specifier=each.specifier & added.pop(each.name, "")) for each in requests)
    limited += tuple(PackageRequest(name, specifier) for name, specifier in added.items())
    again = choose(limited, fleet, platform, compat=compat)
    return limits if again.picks and again.variant is None else ()


def _distance(pick: Pick) -> tuple[int, bool, Driver]:
    """How far a candidate is from running: fewest refusing hosts, then a driver that fixes them, then the oldest."""
    fixes = [max((r.needs for r in verdict.reasons if r.needs), default=None) for verdict in pick.blocked]
    return len(fixes), None in fixes, max((driver for driver in fixes if driver), default=Driver(0, 0))


def _rank(combination: tuple[tuple[int, Pick], ...]) -> tuple[bool, int, tuple[int, ...]]:
    """Known to run before unknown; then the newest, of all packages together."""
    places = tuple(place for place, _ in combination)
    return any(pick.outcome == "unknown" for _, pick in combination), sum(places), places


def _with_torch(requests: tuple[PackageRequest, ...]) -> tuple[PackageRequest, ...]:
    """Add torch where a package requires it: only torch's own packages may come from torch's index."""
    names = {request.name for request in requests}
    torch = next(row for row in framework_table().frameworks if row.name == "torch")
    implied = bool(names & torch.required_by) and "torch" not in names
    return (*requests, PackageRequest("torch", SpecifierSet())) if implied else requests


def _candidates(request: PackageRequest, fleet: Fleet, platform: str, *, compat: bool) -> Iterator[Pick]:
    """The releases that the specifier allows, newest first.

    In each, the newest CUDA major first; within a major, what the hosts' drivers support outright before what runs
    through minor-version compatibility, then PyPI's own build, and then the newest.
    """
    for release in reversed(tables().packages.by_package.get(request.name, ())):
        if release.variants and _allows(request.specifier, release):
            picks = [
                _pick(request, release, item, fleet, platform, compat=compat) for item in _variants(release, request)
            ]
            yield from sorted(picks, key=lambda p: (p.built.major, p.outright, not p.indexed, p.built), reverse=True)


def cuda_extras(package: str) -> frozenset[str]:
    """The extras with which a release of a package brings CUDA's libraries."""
    releases = tables().packages.by_package.get(package, ())
    return frozenset(extra for release in releases for variant in release.variants for extra in variant.extras)


def _variants(release: Release, request: PackageRequest) -> Iterator[tuple[Variant, Cuda]]:
    """The variants that the request allows: a local version or an extra such as jax[cuda12] names one."""
    locals_ = {local for spec in request.specifier if (local := Version(spec.version.rstrip(".*")).local)}
    locals_ &= {variant.name for variant in release.variants}
    bringing = cuda_extras(request.name) & {*request.extras}
    if request.name == "jax" and not bringing:
        return  # jax without an extra runs on the CPU
    for variant in release.variants:
        if variant.cuda and (not locals_ or variant.name in locals_) and (not bringing or bringing & {*variant.extras}):
            yield variant, variant.cuda


def _pick(
    request: PackageRequest, release: Release, item: tuple[Variant, Cuda], fleet: Fleet, platform: str, *, compat: bool
) -> Pick:
    variant, built = item
    brought = variant.libraries == "wheels" or bool(set(request.extras) & set(variant.extras))
    cuda = _libraries(variant, built, fleet)
    stack = _stack(request, release, variant, platform, cuda)
    return Pick(
        package=request.name,
        release=release,
        variant=variant.name,
        cuda=built if brought else cuda,
        built=built,
        open=brought and variant.cuda_below is not None,
        indexed=request.name in wheel_index().packages and variant.name != release.default,
        extras=variant.extras,
        limit=f"{request.name}<{release.band[1]}" if release.versions else None,
        verdicts=tuple(judge_stack(stack, host, compat=compat) for host in fleet.hosts),
    )


def _stack(request: PackageRequest, release: Release, variant: Variant, platform: str, cuda: Cuda) -> Stack:
    """The stack of a candidate; a package that follows torch has torch's kernels."""
    torch = release_of("torch", release.torch) if release.torch else None
    code = (isinstance(torch, Release) and torch.variant(variant.name)) or variant
    version = release.versions or ""
    return stack_of(f"{request.name}{version} ({variant.name})", code, cuda, platform)


def _libraries(variant: Variant, cuda: Cuda, fleet: Fleet) -> Cuda:
    """The CUDA of the libraries that it would run with: its own, or the newest that it takes and every host offers."""
    if variant.cuda_below is None:
        return cuda
    offered = min((c for host in fleet.hosts if (c := offered_by(host))), default=cuda)
    fitting = [t.cuda for t in tables().drivers.toolkits if cuda <= t.cuda < variant.cuda_below and t.cuda <= offered]
    return max(fitting, default=cuda)


def _allows(specifier: SpecifierSet, release: Release) -> bool:
    """Whether some version of the band may fit: its first, one that the specifier names, or one just above that."""
    if release.versions is None:
        return True
    low, high = release.band
    named = [spec.version.removesuffix(".*").partition("+")[0] for spec in specifier]
    tried = {low, *map(Version, named), *(Version(f"{text}.1") for text in named if text.replace(".", "").isdecimal())}
    # A specifier with a local version, ==2.9.1+cu126, fits the release it names.
    public = SpecifierSet(",".join(str(spec).partition("+")[0] for spec in specifier))
    return any(low <= version < high and public.contains(version.public, prereleases=True) for version in tried)
