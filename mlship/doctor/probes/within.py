"""A look from within a running container: the programs of `inside`, given to its own Python; else a shell."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from mlship.doctor.facts.fact import known
from mlship.doctor.facts.merge import merged
from mlship.doctor.facts.place import Loader, Place
from mlship.doctor.probes import shell
from mlship.doctor.probes.child import INSIDE, Ended
from mlship.doctor.probes.cuda_driver import SONAMES, read_cuda
from mlship.doctor.probes.nvml import read_nvml
from mlship.doctor.probes.parts import read_place
from mlship.doctor.probes.told import told
from mlship.doctor.views import variable
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
_LATE = "Timeout ("
_NO_SUCH_PROGRAM = {126, 127}
_EXTRA_SECONDS = 1.0
_PLACES = ("loader", "nodes", "python")


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


def within(engine: EngineLook, container: str, seconds: float) -> Seen:
    """Everything that can be seen from within a running container, in about that time."""
    python = python_of(engine, container)
    if python is not None:
        return _by_python(engine, container, python, seconds - 1)
    ran = engine.execute(container, shell.argv(), seconds)
    return Seen(shell.read(ran.stdout), how="shell") if shell.spoke(ran.stdout) else Seen(Place())


def python_of(engine: EngineLook, container: str) -> str | None:
    """The container's Python, the first that runs and is no older than 3.8."""
    check = "import sys; sys.exit(sys.version_info < (3, 8))"
    for name in PYTHONS:
        if engine.execute(container, (name, "-I", "-S", "-c", check), 3).code == 0:
            return name
    return None


def _by_python(engine: EngineLook, container: str, python: str, seconds: float) -> Seen:
    def run(program: str, *arguments: str) -> Callable[[], Ended]:
        return lambda: execute(engine, container, python, (program, *arguments), seconds)

    names = [name for name in _PLACES if (INSIDE / f"{name}.py").exists()]
    nvml, cuda, *rest = side_by_side(
        (run("gpu", "nvml"), run("gpu", "cuda", "--runtime", *SONAMES), *(run(name) for name in names)), seconds + 2
    )
    place = Place()
    for part in rest:
        place = merged(place, _part(part))
    asked, resolves = read_cuda(cuda)
    simulated = any(library.simulated for ended in (nvml, cuda) for library in told(ended).libraries.values())
    place = merged(place, Place(nvml=read_nvml(nvml), cuda=asked, loader=Loader(resolves=resolves)))
    return Seen(_with_all_devices(engine, container, python, place), simulated, "python")


def _with_all_devices(engine: EngineLook, container: str, python: str, place: Place) -> Place:
    """Where CUDA sees no device and somebody hides some: asked again with nothing hidden."""
    if not known(place.cuda.init) or known(variable(place, "CUDA_VISIBLE_DEVICES")) is None:
        return place
    again = told(execute(engine, container, python, ("gpu", "cuda", "--all-devices"), 2))
    return replace(place, cuda=replace(place.cuda, init_without_visible_devices=again.code("cuInit")))


def execute(engine: EngineLook, container: str, python: str, program: tuple[str, ...], seconds: float) -> Ended:
    """One program of `inside`, by the container's Python."""
    name, *arguments = program
    source = (INSIDE / f"{name}.py").read_text(encoding="utf-8")
    argv = (python, "-I", *(("-S",) if name != "python" else ()), "-c", _WATCHED, f"{seconds:g}", source, *arguments)
    return ended_of(engine.execute(container, argv, seconds + _EXTRA_SECONDS))


def ended_of(ran: Ran) -> Ended:
    """How a program in a container ended, as if it had run here."""
    if ran.code is None or _LATE in ran.stderr:
        return Ended(ran.stdout.splitlines(), "late", None, ran.stderr)
    # A shell's way of telling a signal.
    code = 128 - ran.code if ran.code > 128 else ran.code
    return Ended(ran.stdout.splitlines(), "missing" if ran.code in _NO_SUCH_PROGRAM else "ended", code, ran.stderr)


def side_by_side(calls: tuple[Callable[[], Ended], ...], seconds: float) -> tuple[Ended, ...]:
    """All of them at once; one that does not come back in time is late."""
    results = [Ended() for _ in calls]

    def work(index: int, call: Callable[[], Ended]) -> None:
        results[index] = call()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return tuple(results)


def _part(ended: Ended) -> Place:
    """Part of a place; a program that failed leaves its part unknown."""
    try:
        return read_place(ended)
    except Exception:  # noqa: BLE001  whatever a foreign container's Python printed
        return Place()
