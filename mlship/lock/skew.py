"""Training-serving skew: a package that served predictions in another version than it was trained with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from packaging.version import InvalidVersion, Version

from mlship.errors import CheckFailed
from mlship.lock.check import Lock
from mlship.lock.record import Trace
from mlship.project.config import Config
from mlship.project.training import Training

Served: TypeAlias = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Skew:
    """A package whose version differs between training and image.

    Attributes:
        name: as the lock has it.
        trained_as: its name in the training, where another distribution of the same modules was installed.
        breaks: the major or minor version differs, so results may.
    """

    name: str
    locked: str
    trained: str
    trained_as: str
    breaks: bool

    def __str__(self) -> str:
        name = self.name if self.name == self.trained_as else f"{self.name} (in training, {self.trained_as})"
        return f"{name}: trained with {self.trained}, locked {self.locked}"


def skews(training: Training, pins: Iterable[tuple[str, str]], served: Served | None) -> tuple[Skew, ...]:
    """Every package that training and server import in different versions.

    Args:
        pins: name and version of each locked package.
        served: top-level modules that the server imports, by package; None if unknown, and then all locked ones count.
    """
    counted = [(name, version) for name, version in pins if served is None or name in served]
    found = (_skew(training, name, version, served[name] if served else ()) for name, version in counted)
    return tuple(skew for skew in found if skew)


def check_skew(config: Config, lock: Lock, training: Training) -> tuple[str, ...]:
    """Refuse a lock whose libraries are not those of the training. Returns warnings about smaller differences.

    Raises:
        CheckFailed: a package on the model's import path has another major or minor version.
    """
    pins = ((pin.name, pin.version) for pin in lock.pins)
    found = skews(training, pins, _served(lock.record.trace))
    breaking = [skew for skew in found if skew.breaks]
    if breaking:
        listed = "".join(f"\n- {skew}" for skew in breaking)
        pinned = " ".join(f"`{skew.name}=={skew.trained.partition('+')[0]}`" for skew in breaking)
        raise CheckFailed(
            f"the model was trained with other libraries than the image has, so its results may differ:{listed}",
            hint=f"add {pinned} to `{config.requirements.input}` and run `mlship lock`, or train again with the locked "
            f"versions and replace `{config.model.metadata}`",
        )
    warnings = [f"small difference from the training: {skew}" for skew in found]
    python = training.python and ".".join(training.python.split(".")[:2])
    if python and python != config.python:
        warnings.append(f"the model was trained with Python {python}, the image has {config.python}")
    return tuple(warnings)


def _skew(training: Training, name: str, locked: str, modules: Iterable[str]) -> Skew | None:
    release = training.release_of(name, modules)
    if release is None:
        return None
    breaks, differs = _compared(locked, release[1])
    return Skew(name, locked, release[1], release[0], breaks) if differs else None


def _compared(locked: str, trained: str) -> tuple[bool, bool]:
    """Whether the major or minor version differs, and whether anything does; builds such as +cu128 are the same."""
    try:
        one, other = Version(locked), Version(trained)
    except InvalidVersion:  # of a package that pip did not install
        return locked != trained, locked != trained
    breaks = (one.epoch, one.major, one.minor) != (other.epoch, other.major, other.minor)
    return breaks, Version(one.public) != Version(other.public)


def _served(trace: Trace | None) -> Served | None:
    """The top-level modules of each package in a trace."""
    if trace is None:
        return None
    return {
        name: sorted({*folders.get(".", "").split(), *(folder.partition("/")[0] for folder in folders.keys() - {"."})})
        for name, folders in trace.packages.items()
    }
