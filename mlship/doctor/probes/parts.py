"""Facts from the JSON output of a program of `inside`, validated like a facts file."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.probes.base import Look, Probe
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.where import placed
from mlship.driver.child import ChildResult, run_script
from mlship.versioned import adapter


@dataclass(frozen=True)
class InsideProbe(Probe):
    """Runs a program of `inside` in its own process: nodes call the driver, and a network folder may not answer.

    A device node proves little: for root, NVIDIA's libraries create /dev/nvidiactl even without the module.
    """

    name: str
    program: str
    seconds: float = 4.0

    def read(self, look: Look) -> Facts:
        return placed(look.root, read_place(run_script(INSIDE / self.program, (str(look.root),), self.seconds - 1)))


class NoAnswerError(Exception):
    """The program gave no answer, with the reason."""


def read_place(ended: ChildResult) -> Place:
    """Part of a place, from the program's output line.

    Raises:
        NoAnswerError: the program did not finish.
    """
    plain = read_object(ended)
    text = json.dumps({"host": plain, "schema": 1})
    facts: Facts = adapter(Facts).validate_json(text, strict=True)
    return facts.host


def read_object(ended: ChildResult) -> dict[str, object]:
    """The last JSON object in the output.

    Raises:
        NoAnswerError: there is none.
    """
    try:
        plain: object = json.loads(_last(ended.lines))
    except ValueError as error:
        why = "no answer in time" if ended.how == "late" else _last(ended.stderr.splitlines()) or "no answer"
        raise NoAnswerError(why) from error
    if not isinstance(plain, dict):
        raise NoAnswerError("the answer is not an object")
    return {str(key): value for key, value in plain.items()}


def _last(lines: Iterable[str]) -> str:
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "")
