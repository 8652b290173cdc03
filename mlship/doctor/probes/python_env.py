"""The user's Python environments: each `python3` on PATH with a GPU framework.

mlship's own environment counts only if it has a framework, because then it is the project's as well.
"""

import json
import os
from pathlib import Path

from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.probes.base import Look, Probe
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.parts import NoAnswerError, read_object
from mlship.doctor.probes.where import live, placed
from mlship.driver.child import ChildResult, run_child
from mlship.versioned import adapter

_MOST = 3


class PythonProbe(Probe):
    """Reads package metadata; imports nothing."""

    name = "python"
    seconds = 6.0

    def read(self, look: Look) -> Facts:
        if not live(look.root):
            return Facts()
        found: dict[object, PythonEnvironment] = {}
        for program in pythons(os.environ.get("PATH", "")):
            # -I ignores PYTHONPATH and the current folder, but keeps the environment's packages.
            ended = run_child((str(program), "-I", str(INSIDE / "python_env.py")), 1.8)
            try:
                environment = read_environment(ended)
            except (NoAnswerError, ValueError):
                continue
            found.setdefault(environment.prefix, environment)
        return placed(look.root, Place(pythons=tuple(one for one in found.values() if one.distributions)))


def read_environment(ended: ChildResult) -> PythonEnvironment:
    """One environment, from the output of `inside.python_env`.

    Raises:
        NoAnswerError: the program did not finish.
        ValueError: unexpected output.
    """
    text = json.dumps({"host": {"pythons": [read_object(ended)]}, "schema": 1})
    facts: Facts = adapter(Facts).validate_json(text, strict=True)
    pythons = facts.host.pythons
    if not isinstance(pythons, tuple):
        raise NoAnswerError("the answer is not an environment")
    return pythons[0]


def pythons(path: str) -> list[Path]:
    """The first python3 programs on PATH, each file once."""
    found: dict[str, Path] = {}
    for folder in path.split(os.pathsep):
        program = Path(folder, "python3")
        if folder.startswith("/") and os.access(program, os.X_OK):
            # Compare folders too: a virtual environment's python3 links to the base interpreter.
            found.setdefault(os.path.realpath(folder), program)
    return list(found.values())[:_MOST]
