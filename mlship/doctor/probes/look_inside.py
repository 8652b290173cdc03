"""Looks into a running container: our programs, run by the container's own Python; without one, a shell script."""

from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlship import plain
from mlship.background import in_background
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import merged
from mlship.doctor.facts.place import Loader, Place
from mlship.doctor.probes import shell
from mlship.doctor.probes.driver import SONAMES, cuda_facts, nvml_facts, resolved_files, with_all_devices
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.inside.nodes import SECRET, VARIABLES
from mlship.doctor.probes.inside_programs import printed_environments, read_place
from mlship.doctor.queries import variable
from mlship.driver.child import DRIVER_PROGRAM, ChildResult
from mlship.engine.look import EngineLook, Ran

PYTHONS = ("python3", "python", "/opt/venv/bin/python", "/opt/conda/bin/python", "/usr/bin/python3")
# A program in a container cannot be ended from outside without ending the container: it watches the clock itself.
_WATCHED = (
    "import faulthandler, sys\n"
    "faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)\n"
    "program = sys.argv[2]\n"
    "sys.argv[1:3] = []\n"
    "exec(compile(program, 'mlship-doctor', 'exec'), {'__name__': '__main__'})\n"
)
_FIRST = (
    "import json, sys\n"
    "if sys.version_info < (3, 8): sys.exit(1)\n"
    "try: lines = open('/proc/1/environ', errors='replace').read().split(chr(0))\n"
    "except OSError: lines = []\n"
    "print(json.dumps(lines))\n"
)
_LATE = "Timeout ("
_NO_SUCH_PROGRAM = {126, 127}
_EXTRA_SECONDS = 1.0


@dataclass(frozen=True)
class Seen:
    """What was seen in a container.

    Attributes:
        simulated: the libraries that answered say that they are a simulation.
    """

    place: Place
    simulated: bool = False


@dataclass(frozen=True)
class ContainerPython:
    """A container's Python, and where it runs.

    Attributes:
        env: of the container's first process: `docker exec` lacks what CDI and the runtimes add there.
    """

    engine: EngineLook
    container: str
    program: str
    env: Mapping[str, str]

    def run(self, script: Path, arguments: tuple[str, ...], seconds: float) -> ChildResult:
        source = script.read_text(encoding="utf-8")
        flags = ("-I",) if script.stem == "python_env" else ("-I", "-S")
        argv = (self.program, *flags, "-c", _WATCHED, f"{seconds:g}", source, *arguments)
        return ended_of(self.engine.execute(self.container, argv, seconds + _EXTRA_SECONDS, self.env))


def look_inside(engine: EngineLook, container: str, seconds: float) -> Seen:
    """Everything that can be seen in a running container, in about that time."""
    python = python_of(engine, container)
    if python is not None:
        return _by_python(python, seconds - 1)
    ran = engine.execute(container, shell.shell_argv(), seconds)
    return Seen(shell.read_sections(ran.stdout)) if shell.finished(ran.stdout) else Seen(Place())


def python_of(engine: EngineLook, container: str) -> ContainerPython | None:
    """The container's first Python that runs and is at least 3.8."""
    for name in PYTHONS:
        ran = engine.execute(container, (name, "-I", "-S", "-c", _FIRST), 3)
        if ran.code == 0:
            return ContainerPython(engine, container, name, first_env(ran.stdout))
    return None


def first_env(text: str) -> dict[str, str]:
    """The variables of interest of the container's first process, no secrets; none if it belongs to another user."""
    pairs = (str(entry).partition("=") for entry in plain.items(plain.json_of(text)))
    return {key: value for key, _, value in pairs if VARIABLES.fullmatch(key) and not SECRET.search(key)}


def _by_python(python: ContainerPython, seconds: float) -> Seen:
    programs = (
        (DRIVER_PROGRAM, ("nvml",)),
        (DRIVER_PROGRAM, ("cuda", "--runtime", *SONAMES)),
        *((INSIDE / f"{name}.py", ()) for name in ("loader", "nodes", "python_env")),
    )
    running = [in_background(partial(python.run, *program, seconds)) for program in programs]
    wait(running, seconds + _EXTRA_SECONDS / 2)
    nvml, cuda, loader, nodes, packages = (one.result() if one.done() else ChildResult() for one in running)
    place = merged(merged(_part(loader), _part(nodes)), Place(pythons=printed_environments(packages)))
    answers = nvml.driver, cuda.driver
    driver = Place(
        nvml=nvml_facts(answers[0]), cuda=cuda_facts(answers[1]), loader=Loader(resolves=resolved_files(answers[1]))
    )
    simulated = any(answer.simulated for answer in answers)
    return Seen(_with_all_devices(python, merged(place, driver)), simulated)


def _with_all_devices(python: ContainerPython, place: Place) -> Place:
    """If CUDA sees no device and CUDA_VISIBLE_DEVICES is set: asked again with nothing hidden."""
    if not known(place.cuda.init) or known(variable(place, "CUDA_VISIBLE_DEVICES")) is None:
        return place
    answer = python.run(DRIVER_PROGRAM, ("cuda", "--all-devices"), 2).driver
    return replace(place, cuda=with_all_devices(place.cuda, answer))


def ended_of(ran: Ran) -> ChildResult:
    """How a program in a container ended, as if it had run on this machine."""
    if ran.code is None or _LATE in ran.stderr:
        return ChildResult(ran.stdout.splitlines(), "late", None, ran.stderr)
    # A shell reports a signal as 128 + its number.
    code = 128 - ran.code if ran.code > 128 else ran.code
    return ChildResult(
        ran.stdout.splitlines(), "missing" if ran.code in _NO_SUCH_PROGRAM else "ended", code, ran.stderr
    )


def _part(ended: ChildResult) -> Place:
    """Part of a place; unknown if its program failed."""
    with suppress(ValueError):
        return read_place(ended)
    return Place()
