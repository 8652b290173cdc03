"""Choose the requirements file to lock, or the contents of a new one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlship.init.found import Detection
from mlship.init.import_needs import KnownImport, UnknownImport
from mlship.init.requirements import SERVING_INPUT, Declared, distribution
from mlship.system_packages import debian_name, system_needs

FROM_IMPORTS = "the imports of the served code"


@dataclass(frozen=True)
class Dependencies:
    """The requirements keys of mlship.yaml and the file behind them.

    Attributes:
        template: template for `input`; None if the file exists.
        lines: requirement lines for the template.
        needs: server requirements for the template.
        every: requirement lines of the whole input, as far as they are known.
        lacking: server requirements that an existing file does not list.
        unknown: imports whose package the user has to name in the template.
        optional: imports that the code can do without.
    """

    input: str
    lock: str
    template: str | None
    origin: str
    lines: tuple[str, ...]
    needs: tuple[str, ...]
    every: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    unknown: tuple[UnknownImport, ...] = ()
    optional: tuple[KnownImport, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the file names differ from the defaults, so mlship.yaml must state them."""
        return (self.input, self.lock) != ("requirements.in", "requirements.txt")


def choose_dependencies(found: Detection, needs: tuple[str, ...], *, generated: bool) -> Dependencies:
    """Use an existing requirements file unchanged, or derive a new one.

    Args:
        needs: server requirements.
        generated: mlship writes the server, so its folder may hold a requirements file.
    """
    usable = next((d for d in found.declared if d.usable and not d.compiled), None)
    if usable is None:
        return _written(found, needs)
    lacking = tuple(need for need in needs if distribution(need) not in usable.names)
    lock = _lock(found.declared, usable)
    if lacking and generated:
        every = (*usable.lines, *lacking)
        return Dependencies(SERVING_INPUT, lock, "init/serving_requirements.in.j2", usable.origin, (), lacking, every)
    return Dependencies(usable.origin, lock, None, usable.origin, (), (), usable.lines, lacking)


def _written(found: Detection, needs: tuple[str, ...]) -> Dependencies:
    """From pyproject.toml, setup.cfg or the conda environment, then a lock file, then the imports."""
    source = next((d for d in found.declared if not d.compiled), next(iter(found.declared), None))
    if source:
        return _new_file(found, source.origin, _pins(source), needs)
    own = {distribution(need) for need in needs}
    lines = tuple(_explained(one) for one in found.imports.known if distribution(one.line) not in own)
    named = own | {distribution(line) for line in lines}
    pickled = {
        line: file.path for file in found.pickles for line in file.requirements if distribution(line) not in named
    }
    lines += tuple(f"{line}  # {path} imports it when it is loaded" for line, path in sorted(pickled.items()))
    chosen = _new_file(found, FROM_IMPORTS if lines else "", lines, needs)
    return replace(chosen, unknown=found.imports.unknown, optional=found.imports.optional)


def _new_file(found: Detection, origin: str, lines: tuple[str, ...], needs: tuple[str, ...]) -> Dependencies:
    named = {name for line in lines if (name := distribution(line))}
    lacking = tuple(need for need in needs if distribution(need) not in named)
    lock = _lock(found.declared, None)
    return Dependencies("requirements.in", lock, "init/requirements.in.j2", origin, lines, lacking, (*lines, *lacking))


def _explained(need: KnownImport) -> str:
    """The requirement with the imports that it is for: `mlship lock` checks that the locked wheel has them."""
    return f"{need.line}  # import {', '.join(need.modules)}"


def system_packages(chosen: Dependencies, distro: str) -> dict[str, dict[str, str]]:
    """The reason for each Debian package that the requirements need, by key of `system` in mlship.yaml."""
    found: dict[str, dict[str, str]] = {"build": {}, "run": {}}
    for name, row in system_needs(chosen.every):
        alternative = row.alternative(name)
        why = f"{name} {row.why}" + (f"; {alternative} needs none of it" if alternative else "")
        for key, packages in (("build", row.build), ("run", row.run)):
            for package in packages:
                found[key].setdefault(debian_name(package, distro), why)
    return {key: packages for key, packages in found.items() if packages}


def _pins(source: Declared) -> tuple[str, ...]:
    return tuple(line.split(" --hash")[0].strip() for line in source.lines)


def _lock(declared: Sequence[Declared], usable: Declared | None) -> str:
    """requirements.txt, unless it is handwritten or the only record of the pins."""
    text = next((d for d in declared if d.origin == "requirements.txt"), None)
    handwritten_or_only = text is not None and (not text.compiled or usable is None)
    return "requirements.lock" if handwritten_or_only else "requirements.txt"
