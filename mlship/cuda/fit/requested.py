"""What the project asks for, before anything is resolved: the packages whose CUDA has to be chosen. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlship.lock.inputs import InputFile

_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


@dataclass(frozen=True)
class Ask:
    """One package that is asked for.

    Attributes:
        name: canonical.
        specifier: of its version; where several lines ask for it, all of them together.
        extras: sorted.
    """

    name: str
    specifier: SpecifierSet
    extras: tuple[str, ...] = ()

    def __str__(self) -> str:
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras}{self.specifier}"


def read_asks(files: Iterable[InputFile], python: str) -> tuple[Ask, ...]:
    """Every package that requirements and constraints files name for Linux and this Python, by name.

    Lines that are no requirements are passed over: pip-compile says what is wrong with them, in its own words.
    """
    found: dict[str, Ask] = {}
    for requirement in _requirements(files, python):
        name = canonicalize_name(requirement.name)
        before = found.get(name, Ask(name, SpecifierSet()))
        extras = tuple(sorted({*before.extras, *requirement.extras}))
        found[name] = Ask(name, before.specifier & requirement.specifier, extras)
    return tuple(found[name] for name in sorted(found))


def _requirements(files: Iterable[InputFile], python: str) -> Iterable[Requirement]:
    for file in files:
        for _, line in file.lines():
            try:
                requirement = Requirement(line.split(" --hash", 1)[0])
            except (InvalidRequirement, RecursionError):
                continue
            if _applies(requirement, python):
                yield requirement


def _applies(requirement: Requirement, python: str) -> bool:
    if requirement.marker is None:
        return True
    try:
        return requirement.marker.evaluate({**_LINUX, "python_version": python, "python_full_version": f"{python}.0"})
    except UndefinedEnvironmentName:
        return True
