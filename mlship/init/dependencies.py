"""Which requirements file the lock is made from, and what is written where the repository has none. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlship.init.found import Detection
from mlship.init.requirements import SERVING_INPUT, Declared, distribution

FROM_IMPORTS = "the imports of the served code"


@dataclass(frozen=True)
class Dependencies:
    """The requirements keys of mlship.yaml and the file behind them.

    Attributes:
        template: renders `input` where it must be written; None where it is there.
        lines: requirement lines, `needs` what the server adds; both for the template.
        lacking: what the server needs and an existing file does not name.
    """

    input: str
    lock: str
    template: str | None
    origin: str
    lines: tuple[str, ...]
    needs: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether mlship.yaml must say it: the file names are not the defaults."""
        return (self.input, self.lock) != ("requirements.in", "requirements.txt")


def choose_dependencies(found: Detection, needs: tuple[str, ...], *, generated: bool) -> Dependencies:
    """An existing requirements file is used as it is; else one is written from what the repository says.

    Args:
        needs: what the server needs, as requirements.
        generated: the server is written by mlship, so that its folder can hold a requirements file of its own.
    """
    usable = next((d for d in found.declared if d.usable and not d.compiled), None)
    if usable is None:
        return _written(found, needs)
    lacking = tuple(need for need in needs if distribution(need) not in usable.names)
    lock = _lock(found.declared, usable)
    if lacking and generated:
        return Dependencies(SERVING_INPUT, lock, "init/serving_requirements.in.j2", usable.origin, (), lacking)
    return Dependencies(usable.origin, lock, None, usable.origin, (), (), lacking)


def _written(found: Detection, needs: tuple[str, ...]) -> Dependencies:
    """From pyproject.toml, setup.cfg or the conda environment; else from a lock; else from the imports."""
    source = next((d for d in found.declared if not d.compiled), next(iter(found.declared), None))
    lines = (
        _pins(source)
        if source
        else tuple(name for name in found.imports if name not in {distribution(need) for need in needs})
    )
    origin = source.origin if source else FROM_IMPORTS if lines else ""
    named = {name for line in lines if (name := distribution(line))}
    lacking = tuple(need for need in needs if distribution(need) not in named)
    return Dependencies(
        "requirements.in", _lock(found.declared, None), "init/requirements.in.j2", origin, lines, lacking
    )


def _pins(source: Declared) -> tuple[str, ...]:
    return tuple(line.split(" --hash")[0].strip() for line in source.lines)


def _lock(declared: Sequence[Declared], usable: Declared | None) -> str:
    """requirements.txt, except where a person wrote it, or it is the only record of what was pinned."""
    text = next((d for d in declared if d.origin == "requirements.txt"), None)
    theirs = text is not None and (not text.compiled or usable is None)
    return "requirements.lock" if theirs else "requirements.txt"
