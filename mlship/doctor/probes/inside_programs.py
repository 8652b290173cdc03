"""Facts from the programs of `inside`: one JSON object each, validated like a facts file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from mlship.doctor.facts.fact import UNKNOWN, Fact, each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.probes.base import Look, placed
from mlship.doctor.probes.files import live
from mlship.doctor.probes.inside import INSIDE
from mlship.driver.child import ChildResult, run_child, run_script
from mlship.versioned import adapter

_MOST = 3


def read_program(look: Look, program: str) -> Facts:
    """Runs a program of `inside` in its own process: nodes call the driver, and a network folder may not answer.

    A device node proves little: for root, NVIDIA's libraries create /dev/nvidiactl even without the module.
    """
    return placed(look.root, read_place(run_script(INSIDE / program, (str(look.root),), 3)))


def read_pythons(look: Look) -> Facts:
    """The user's Python environments, from package metadata: each `python3` on PATH with a GPU framework.

    mlship's own environment counts only if it has a framework, because then it is the project's as well.
    """
    if not live(look.root):
        return Facts()
    found: dict[object, PythonEnvironment] = {}
    for program in _pythons(os.environ.get("PATH", "")):
        # -I ignores PYTHONPATH and the current folder, but keeps the environment's packages.
        ended = run_child((str(program), "-I", str(INSIDE / "python_env.py")), 1.8)
        for environment in each(printed_environments(ended)):
            found.setdefault(environment.prefix, environment)
    return placed(look.root, Place(pythons=tuple(found.values())))


class NoAnswerError(ValueError):
    """The program gave no answer, with the reason."""


def read_place(ended: ChildResult) -> Place:
    """Part of a place.

    Raises:
        ValueError: the program did not finish, or its output is unexpected; it may be a foreign container's.
    """
    return _host(_object_of(ended)).as_kind(Place)


def printed_environments(ended: ChildResult) -> Fact[tuple[PythonEnvironment, ...]]:
    """The environment that `inside.python_env` printed, if it has packages; unknown if its output is unexpected."""
    try:
        pythons = _host({"pythons": [_object_of(ended)]}).pythons
    except ValueError:
        return UNKNOWN
    return tuple(one for one in each(pythons) if known(one.distributions))


def _host(plain: dict[str, object]) -> Host:
    facts: Facts = adapter(Facts).validate_json(json.dumps({"host": plain, "schema": 1}), strict=True)
    return facts.host


def _object_of(ended: ChildResult) -> dict[str, object]:
    """The last JSON object in the output.

    Raises:
        NoAnswerError: there is none.
    """
    try:
        plain: object = json.loads(_last(ended.lines))
    except (ValueError, RecursionError) as error:
        why = "no answer in time" if ended.how == "late" else _last(ended.stderr.splitlines()) or "no answer"
        raise NoAnswerError(why) from error
    if not isinstance(plain, dict):
        raise NoAnswerError("the answer is not an object")
    return {str(key): value for key, value in plain.items()}


def _last(lines: Iterable[str]) -> str:
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "")


def _pythons(path: str) -> list[Path]:
    """The first python3 programs on PATH, each file once."""
    found: dict[str, Path] = {}
    for folder in path.split(os.pathsep):
        program = Path(folder, "python3")
        if folder.startswith("/") and os.access(program, os.X_OK):
            # Compare folders too: a virtual environment's python3 links to the base interpreter.
            found.setdefault(os.path.realpath(folder), program)
    return list(found.values())[:_MOST]
