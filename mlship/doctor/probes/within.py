"""A look from within a running container: the programs of `inside`, given to its own Python; else a shell."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial

from mlship.doctor.facts.fact import UNKNOWN, Fact, known
from mlship.doctor.facts.merge import merged
from mlship.doctor.facts.place import Loader, Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.probes import shell
from mlship.doctor.probes.child import INSIDE, ChildResult
from mlship.doctor.probes.cuda_driver import SONAMES, read_cuda
from mlship.doctor.probes.inside.nodes import VARIABLES
from mlship.doctor.probes.nvml import read_nvml
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.python_env import read_environment
from mlship.doctor.probes.told import told
from mlship.doctor.queries import variable
from mlship.engine.look import EngineLook, Ran

PYTHONS = ("python3", "python", "/opt/venv/bin/python", "/opt/conda/bin/python", "/usr/bin/python3")
# Nobody can end a program in a container from outside but by ending the container: it watches the clock itself.
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
    """What was seen from within.

    Attributes:
        simulated: the libraries that answered say that they are a simulation.
        how: "python" or "shell", by what it was seen; None where neither could be run.
    """

    place: Place
    simulated: bool = False
    how: str | None = None


@dataclass(frozen=True)
class Python:
    """A container's Python, and where it runs.

    Attributes:
        env: of the container's first process: what CDI and the runtimes add there, `docker exec` does not.
    """

    engine: EngineLook
    container: str
    program: str
    env: Mapping[str, str]

    def run(self, program: tuple[str, ...], seconds: float) -> ChildResult:
        """One program of `inside`."""
        name, *arguments = program
        source = (INSIDE / f"{name}.py").read_text(encoding="utf-8")
        flags = ("-I",) if name == "python_env" else ("-I", "-S")
        argv = (self.program, *flags, "-c", _WATCHED, f"{seconds:g}", source, *arguments)
        return ended_of(self.engine.execute(self.container, argv, seconds + _EXTRA_SECONDS, self.env))


def within(engine: EngineLook, container: str, seconds: float) -> Seen:
    """Everything that can be seen from within a running container, in about that time."""
    python = python_of(engine, container)
    if python is not None:
        return _by_python(python, seconds - 1)
    ran = engine.execute(container, shell.argv(), seconds)
    return Seen(shell.read(ran.stdout), how="shell") if shell.spoke(ran.stdout) else Seen(Place())


def python_of(engine: EngineLook, container: str) -> Python | None:
    """The container's Python, the first that runs and is no older than 3.8."""
    for name in PYTHONS:
        ran = engine.execute(container, (name, "-I", "-S", "-c", _FIRST), 3)
        if ran.code == 0:
            return Python(engine, container, name, first_env(ran.stdout))
    return None


def first_env(text: str) -> dict[str, str]:
    """The variables that matter of the container's first process; none where it is somebody else's."""
    try:
        plain: object = json.loads(text)
    except ValueError:
        return {}
    pairs = [str(entry).partition("=") for entry in plain] if isinstance(plain, list) else []
    return {key: value for key, _, value in pairs if VARIABLES.fullmatch(key)}


def _by_python(python: Python, seconds: float) -> Seen:
    programs = (("gpu", "nvml"), ("gpu", "cuda", "--runtime", *SONAMES), ("loader",), ("nodes",), ("python_env",))
    calls = tuple(partial(python.run, program, seconds) for program in programs)
    nvml, cuda, loader, nodes, packages = side_by_side(calls, seconds + _EXTRA_SECONDS / 2)
    place = merged(merged(_part(loader), _part(nodes)), Place(pythons=_environment(packages)))
    asked, resolves = read_cuda(cuda)
    simulated = any(library.simulated for ended in (nvml, cuda) for library in told(ended).libraries.values())
    place = merged(place, Place(nvml=read_nvml(nvml), cuda=asked, loader=Loader(resolves=resolves)))
    return Seen(_with_all_devices(python, place), simulated, "python")


def _with_all_devices(python: Python, place: Place) -> Place:
    """Where CUDA sees no device and somebody hides some: asked again with nothing hidden."""
    if not known(place.cuda.init) or known(variable(place, "CUDA_VISIBLE_DEVICES")) is None:
        return place
    again = told(python.run(("gpu", "cuda", "--all-devices"), 2))
    return replace(place, cuda=replace(place.cuda, init_without_visible_devices=again.code("cuInit")))


def ended_of(ran: Ran) -> ChildResult:
    """How a program in a container ended, as if it had run here."""
    if ran.code is None or _LATE in ran.stderr:
        return ChildResult(ran.stdout.splitlines(), "late", None, ran.stderr)
    # A shell's way of telling a signal.
    code = 128 - ran.code if ran.code > 128 else ran.code
    return ChildResult(
        ran.stdout.splitlines(), "missing" if ran.code in _NO_SUCH_PROGRAM else "ended", code, ran.stderr
    )


def side_by_side(calls: tuple[Callable[[], ChildResult], ...], seconds: float) -> tuple[ChildResult, ...]:
    """All of them at once; one that does not come back in time is late."""
    results = [ChildResult() for _ in calls]

    def work(index: int, call: Callable[[], ChildResult]) -> None:
        results[index] = call()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return tuple(results)


def _part(ended: ChildResult) -> Place:
    """Part of a place; a program that failed leaves its part unknown."""
    try:
        found = read_place(ended)
    except Exception:  # noqa: BLE001  whatever a foreign container's Python printed
        return Place()
    return Place(**{field.name: getattr(found, field.name) for field in fields(Place)})


def _environment(ended: ChildResult) -> Fact[tuple[PythonEnvironment, ...]]:
    try:
        found = read_environment(ended)
    except Exception:  # noqa: BLE001  likewise
        return UNKNOWN
    return (found,) if known(found.distributions) else ()
