"""Pins without a wheel for the image, which the build has to make from source."""

from collections.abc import Iterable, Iterator

from mlship.lock.hashes import HashedPin
from mlship.project.config import Config
from mlship.system_packages import debian_name, system_needs


def built_from_source(pins: Iterable[HashedPin], config: Config) -> Iterator[str]:
    """A sentence for each pin without a wheel, unless mlship.yaml already lists what it is built with."""
    for pin in pins:
        if pin.installed is None or pin.installed.filename.endswith(".whl"):
            continue
        requirement = pin.lines.split()[0]
        needs = [row for _, row in system_needs([requirement])]
        build = _debian([one for row in needs for one in row.build], config)
        run = _debian([one for row in needs for one in row.run], config)
        if config.system.build and {*build} <= {*config.system.build} and {*run} <= {*config.system.run}:
            continue
        without = f"`{requirement}` has no wheel for Python {config.python} on {config.platform}; the build compiles it"
        if build:
            keys = ", ".join(f"{key}: [{', '.join(names)}]" for key, names in (("build", build), ("run", run)) if names)
            other = instead_of(pin.name, ", or require {}")
            yield f"{without}, for which mlship.yaml needs `system: {{{keys}}}`{other}"
        else:
            yield f"{without}; if that needs a compiler, add it as `system.build`, such as [gcc, libc6-dev]"


def _debian(packages: list[str], config: Config) -> list[str]:
    return list(dict.fromkeys(debian_name(package, config.base.distro) for package in packages))


def instead_of(name: str, text: str) -> str:
    """`text` with a distribution that has wheels and the same modules; empty if none is known."""
    others = [other for found, row in system_needs([name]) if (other := row.alternative(found))]
    return text.format(f"`{others[0]}`") if others else ""
