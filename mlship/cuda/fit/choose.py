"""Which CUDA to resolve for: the newest release of each package that is asked for whose CUDA every host runs. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlship.cuda.fit.judge import Outcome, Stack, Verdict, judge, offered_by, worst
from mlship.cuda.fit.needs import stack_of
from mlship.cuda.fit.requested import Ask
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.load import Release, Variant, release_of, tables, wheel_index
from mlship.cuda.versions import Cuda, Driver
from mlship.frameworks import framework_table

_INDEXED = " from the wheel index"


@dataclass(frozen=True)
class Pick:
    """One package, the release band and the variant that were picked for it.

    Attributes:
        cuda: of its libraries: its own, or what the hosts offer where an image has to bring them.
        built: the CUDA that it was built with, or the oldest that it takes.
        open: wheels bring the libraries, and the lock decides which minor version of CUDA's major they are.
        indexed: the variant lies on the wheel index and not on PyPI.
        limit: the requirement that keeps to this band; None where the tables know no end of it.
    """

    package: str
    variant: str
    cuda: Cuda
    built: Cuda
    open: bool
    indexed: bool
    limit: str | None
    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        """For people: "torch<2.15 cu126"."""
        return f"{self.limit or self.package} {self.variant}"

    @property
    def outcome(self) -> Outcome:
        return worst(verdict.outcome for verdict in self.verdicts)

    @property
    def blocked(self) -> tuple[Verdict, ...]:
        """The hosts that refuse it."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "refused")

    @property
    def outright(self) -> bool:
        """Every host's driver offers this CUDA or a newer one; nothing rests on minor-version compatibility."""
        return all(reason.kind != "minor-version" for verdict in self.verdicts for reason in verdict.reasons)


@dataclass(frozen=True)
class Choice:
    """What to resolve for.

    Attributes:
        picks: none where nothing that is asked for has CUDA to choose, or where nothing runs.
        refused: for each package the candidate that is nearest to running, where no combination runs; else none.
        others: the other candidates that some host refuses then, in the order of choice.
    """

    picks: tuple[Pick, ...]
    refused: tuple[Pick, ...] = ()
    others: tuple[Pick, ...] = ()

    @property
    def cuda(self) -> str:
        """The newest CUDA among the picks, which are all of one major; the major alone where the lock decides more."""
        told = [pick.cuda for pick in self.picks if not pick.open]
        return str(max(told)) if told else ", ".join(sorted({str(pick.built.major) for pick in self.picks}))

    @property
    def variant(self) -> str | None:
        """The folder of the wheel index that wheels are taken from; None for PyPI alone."""
        return next((pick.variant for pick in self.picks if pick.indexed), None)

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(pick.limit for pick in self.picks if pick.limit)

    @property
    def key(self) -> str:
        """All of it in a line, as mlship.lock keeps it: "12.6: torch<2.15 cu126 from the wheel index"."""
        parts = (f"{pick}{_INDEXED if pick.indexed else ''}" for pick in self.picks)
        return f"{self.cuda}: {', '.join(parts)}" if self.picks else "nothing to choose"


def choose(asks: tuple[Ask, ...], fleet: Fleet, platform: str, *, compat: bool = False) -> Choice:
    """Choose for what is asked.

    The newest release that is asked for comes first; among its variants the newest CUDA that every host runs. All
    packages get the same CUDA major.

    Args:
        platform: of the image, such as linux/amd64.
        compat: NVIDIA's forward-compatibility libraries will be in the image.
    """
    found = [tuple(_candidates(ask, fleet, platform, compat=compat)) for ask in _with_torch(asks)]
    wanted = [picks for picks in found if picks]
    running = [[pick for pick in picks if pick.outcome != "refused"] for picks in wanted]
    for combination in sorted(product(*(enumerate(picks) for picks in running)), key=_rank):
        picks = tuple(pick for _, pick in combination)
        if len({pick.built.major for pick in picks}) <= 1:
            return Choice(picks)
    nearest = tuple(min(picks, key=_distance) for picks in wanted)
    others = (pick for picks in wanted for pick in picks if pick.blocked and pick not in nearest)
    return Choice((), nearest, tuple(others))


def _distance(pick: Pick) -> tuple[int, bool, Driver]:
    """How far it is from running: fewest hosts that refuse it, then a driver that mends them, then the oldest such."""
    mended = [max((r.needs for r in verdict.reasons if r.needs), default=None) for verdict in pick.blocked]
    return len(mended), None in mended, max((driver for driver in mended if driver), default=Driver(0, 0))


def _rank(combination: tuple[tuple[int, Pick], ...]) -> tuple[bool, int, tuple[int, ...]]:
    """Known to run before unknown; then the newest, of all packages together."""
    places = tuple(place for place, _ in combination)
    return any(pick.outcome == "unknown" for _, pick in combination), sum(places), places


def _with_torch(asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    """With torch where a package depends on it: only torch's own packages may come from torch's index."""
    names = {ask.name for ask in asks}
    torch = next(row for row in framework_table().frameworks if row.name == "torch")
    return (*asks, Ask("torch", SpecifierSet())) if names & torch.required_by and "torch" not in names else asks


def _candidates(ask: Ask, fleet: Fleet, platform: str, *, compat: bool) -> Iterator[Pick]:
    """Bands that the specifier allows, newest first.

    In each, the newest CUDA major first; in it, what the hosts' drivers offer outright before what runs there by
    minor-version compatibility, and then the newest.
    """
    for release in reversed(tables().packages.releases.get(ask.name, ())):
        if release.variants and _allows(ask.specifier, release):
            picks = [_pick(ask, release, item, fleet, platform, compat=compat) for item in _asked(release, ask)]
            yield from sorted(picks, key=lambda pick: (pick.built.major, pick.outright, pick.built), reverse=True)


def _asked(release: Release, ask: Ask) -> Iterator[tuple[Variant, Cuda]]:
    """The variants that the ask leaves open: a local version or an extra such as jax[cuda12] names one."""
    named = {variant.name for variant in release.variants}
    locals_ = {local for spec in ask.specifier if (local := Version(spec.version.rstrip(".*")).local)}
    wanted = (locals_ & named) or (set(ask.extras) & named) or named
    if ask.name == "jax" and not set(ask.extras) & named:
        return  # plain jax runs on the CPU
    yield from ((variant, variant.cuda) for variant in release.variants if variant.name in wanted and variant.cuda)


def _pick(ask: Ask, release: Release, item: tuple[Variant, Cuda], fleet: Fleet, platform: str, *, compat: bool) -> Pick:
    variant, built = item
    brought = variant.libraries == "wheels" or bool(set(ask.extras) & set(variant.extras))
    cuda = _libraries(variant, built, fleet)
    stack = _stack(ask, release, variant, platform, cuda)
    return Pick(
        package=ask.name,
        variant=variant.name,
        cuda=built if brought else cuda,
        built=built,
        open=brought and variant.cuda_below is not None,
        indexed=ask.name in wheel_index().packages and variant.name != release.default,
        limit=_limit(ask, release),
        verdicts=tuple(judge(stack, host, compat=compat) for host in fleet.hosts),
    )


def _stack(ask: Ask, release: Release, variant: Variant, platform: str, cuda: Cuda) -> Stack:
    """The stack of a candidate: what follows torch has torch's kernels."""
    torch = release_of("torch", release.torch) if release.torch else None
    code = (isinstance(torch, Release) and torch.variant(variant.name)) or variant
    version = release.versions or ""
    return stack_of(f"{ask.name}{version} ({variant.name})", code, cuda, platform)


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
    low, high = (Version(part.lstrip(">=<")) for part in release.versions.split(","))
    named = [spec.version.removesuffix(".*").partition("+")[0] for spec in specifier]
    tried = {low, *map(Version, named), *(Version(f"{text}.1") for text in named if text.replace(".", "").isdecimal())}
    return any(low <= version < high and _fits(specifier, version) for version in tried)


def _fits(specifier: SpecifierSet, version: Version) -> bool:
    """A specifier with a local version, ==2.9.1+cu126, fits the release it names."""
    plain = SpecifierSet(",".join(str(spec).partition("+")[0] for spec in specifier))
    return plain.contains(version.public, prereleases=True)


def _limit(ask: Ask, release: Release) -> str | None:
    """The end of the band: a newer release may be built for another CUDA, or is not known yet."""
    return f"{ask.name}<{release.versions.partition('<')[2]}" if release.versions else None
