"""Which CUDA to resolve for: the newest release of each package that is asked for whose CUDA every host runs. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlship.cuda.asks import Ask
from mlship.cuda.hosts import Fleet
from mlship.cuda.match import Stack, Verdict, judge, worst
from mlship.cuda.tables import Release, Variant, tables, wheel_index
from mlship.cuda.versions import Cuda

# What asks for torch by itself; naming torch's index for others would let their packages come from there.
_BRING_TORCH = frozenset(
    {
        *("accelerate", "diffusers", "lightning", "peft", "pytorch-lightning", "sentence-transformers", "timm"),
        *("torchaudio", "torchmetrics", "torchvision", "transformers", "ultralytics", "openai-whisper"),
    }
)


@dataclass(frozen=True)
class Pick:
    """One package, the release band and the variant that were picked for it.

    Attributes:
        indexed: the variant lies on the wheel index and not on PyPI.
        limit: the requirement that keeps to this band; None where the tables know no end of it.
    """

    package: str
    variant: str
    cuda: Cuda
    indexed: bool
    limit: str | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Choice:
    """What to resolve for.

    Attributes:
        picks: none where nothing that is asked for has CUDA that could be chosen.
        blocked: for the newest candidate of each package, the hosts that refuse it; what a refusal is told by.
    """

    picks: tuple[Pick, ...]
    blocked: tuple[Verdict, ...] = ()
    refused: bool = False

    @property
    def cuda(self) -> Cuda | None:
        """The newest CUDA among the picks, which are all of one major."""
        return max((pick.cuda for pick in self.picks), default=None)

    @property
    def variant(self) -> str | None:
        """The folder of the wheel index that wheels are taken from; None for PyPI alone."""
        return next((pick.variant for pick in self.picks if pick.indexed), None)

    @property
    def limits(self) -> tuple[str, ...]:
        return tuple(pick.limit for pick in self.picks if pick.limit)

    @property
    def key(self) -> str:
        """All of it in a line, as mlship.lock keeps it."""
        parts = [f"{pick.package} {pick.variant}{' from the wheel index' if pick.indexed else ''}" for pick in self.picks]
        return "; ".join([str(self.cuda or "not chosen"), *parts, *self.limits])


def choose(asks: tuple[Ask, ...], fleet: Fleet, platform: str, *, compat: bool = False) -> Choice:
    """Choose for what is asked.

    The newest release that is asked for comes first; among its variants the newest CUDA that every host runs, by
    minor-version compatibility as well. All packages get the same CUDA major.
    """
    wanted = {ask.name: tuple(_candidates(ask, fleet, platform, compat=compat)) for ask in _with_torch(asks)}
    wanted = {name: found for name, found in wanted.items() if found}
    running = {name: [pick for pick in found if _runs(pick)] for name, found in wanted.items()}
    for combination in sorted(product(*(enumerate(found) for found in running.values())), key=_rank):
        picks = tuple(pick for _, pick in combination)
        if len({pick.cuda.major for pick in picks}) <= 1:
            return Choice(picks)
    newest = [found[0] for found in wanted.values()]
    blocked = tuple(v for pick in newest for v in pick.verdicts if v.outcome == "refused")
    return Choice((), blocked, refused=True)


def _rank(combination: tuple[tuple[int, Pick], ...]) -> tuple[int, tuple[int, ...]]:
    places = tuple(place for place, _ in combination)
    return sum(places), places


def _runs(pick: Pick) -> bool:
    return worst(verdict.outcome for verdict in pick.verdicts) != "refused"


def _with_torch(asks: tuple[Ask, ...]) -> tuple[Ask, ...]:
    names = {ask.name for ask in asks}
    return (*asks, Ask("torch", SpecifierSet())) if names & _BRING_TORCH and "torch" not in names else asks


def _candidates(ask: Ask, fleet: Fleet, platform: str, *, compat: bool) -> Iterator[Pick]:
    """Bands that the specifier allows, newest first; in each the variants, newest CUDA first, PyPI's own before others."""
    for release in reversed(tables().packages.releases.get(ask.name, ())):
        if release.follows or not _allows(ask.specifier, release):
            continue
        variants = [variant for variant in release.variants if variant.cuda and _asked(variant, ask, release)]
        for variant in sorted(variants, key=lambda v: (v.cuda, v.name == release.default), reverse=True):
            yield _pick(ask, release, variant, tuple(_judge(ask, release, variant, fleet, platform, compat=compat)))
