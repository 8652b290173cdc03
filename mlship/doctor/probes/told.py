"""What `inside.gpu` tells, line by line, as one value. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unknown, Unreadable
from mlship.doctor.facts.place import Library
from mlship.doctor.probes.child import ChildResult, json_line

Value = str | list[int] | None


@dataclass(frozen=True)
class ProbeAnswer:
    """One answered call; `value` is None where it failed."""

    name: str
    device: int | None
    code: int
    value: Value


@dataclass(frozen=True)
class Loaded:
    """One library that was to be loaded; `error` is the loader's, empty where it was loaded."""

    path: str | None
    mounted: bool | None
    simulated: bool
    version: str | None
    error: str


@dataclass(frozen=True)
class Told:
    """All that was told.

    Attributes:
        pending: the call that was begun and never answered, where the program hung or crashed.
        how: "late" where it hung, a signal's name where that ended it; empty where it came to its end.
        refused: the library is no simulation, and only one of those was to be asked.
        failure: why the program said nothing at all; empty where it spoke.
    """

    answers: tuple[ProbeAnswer, ...]
    libraries: Mapping[str, Loaded]
    pending: tuple[str, int | None] | None
    how: str
    refused: bool
    failure: str

    def answer(self, name: str, device: int | None = None) -> ProbeAnswer | None:
        return next((one for one in self.answers if (one.name, one.device) == (name, device)), None)

    def code(self, name: str, device: int | None = None) -> Fact[int]:
        """The return code of a call."""
        found = self.answer(name, device)
        return self.gap(name, device) if found is None else found.code

    def text(self, name: str, device: int | None = None) -> Fact[str]:
        """What a call gave, as text."""
        found = self.answer(name, device)
        if found is None:
            return self.gap(name, device)
        return found.value if isinstance(found.value, str) else failed(found)

    def number(self, name: str, device: int | None = None, place: int = 0) -> Fact[int]:
        """What a call gave: one of its numbers."""
        found = self.answer(name, device)
        if found is None:
            return self.gap(name, device)
        return found.value[place] if isinstance(found.value, list) and len(found.value) > place else failed(found)

    def gap(self, name: str, device: int | None) -> Unreadable | Unknown:
        """Why a call has no answer: it hung or crashed, or nobody made it."""
        if self.pending != (name, device):
            return Unreadable(self.failure) if self.failure else UNKNOWN
        return Unreadable("no answer in time" if self.how == "late" else f"it ended the program that asked: {self.how}")

    @property
    def hangs_at(self) -> Fact[str]:
        return None if self.how != "late" else self._pending_name

    @property
    def crashes_at(self) -> Fact[str]:
        return None if self.how in {"", "late"} else f"{self._pending_name} ({self.how})"

    @property
    def _pending_name(self) -> str:
        name, device = self.pending or ("loading it", None)
        return name if device is None else f"{name} of GPU {device}"


def failed(answer: ProbeAnswer) -> Unreadable | Unknown | None:
    """Absent where the GPU has no such thing (3), unknown where the driver does not know the call (13, 500)."""
    if answer.code == 3:
        return None
    return UNKNOWN if answer.code in {13, 500} else Unreadable(f"{answer.name} returns {answer.code}")


def told(ended: ChildResult) -> Told:
    """What a program told before it ended, however that was."""
    events = [event for line in ended.lines if (event := json_line(line)) is not None]
    answers = tuple(_answer(event) for event in events if event.get("event") == "answer")
    libraries = {str(event.get("name")): _loaded(event) for event in events if event.get("event") == "library"}
    last = events[-1] if events else {}
    how = "late" if ended.how == "late" else ended.signal or (f"exit code {ended.code}" if ended.code else "")
    silent = not events and ended.how != "late"
    return Told(
        answers,
        libraries,
        pending=(str(last.get("name")), _number(last.get("device"))) if last.get("event") == "call" else None,
        how="" if silent else how,
        refused=any(event.get("event") == "refused" for event in events),
        failure=(_last_line(ended.stderr) or f"the program that asks did not run ({ended.how})") if silent else "",
    )


def library_fact(loaded: Loaded | None, version: str | None = None) -> Fact[Library]:
    """The file that a name resolved to; absent where the loader finds none.

    Args:
        version: of the driver, as the library itself says it, where its file's name does not.
    """
    if loaded is None:
        return UNKNOWN
    if not loaded.error:
        return (
            _library(loaded.path, loaded.mounted, loaded.version or version)
            if loaded.path
            else Unreadable("its file was not found")
        )
    # The loader names the file that it found and could not use: a broken one, or one for another processor.
    found = re.match(r"(/[^:]+): (?!cannot open shared object file: No such file)", loaded.error)
    return _library(found[1], None, None) if found else None


def version_of(path: str) -> str | None:
    """The driver's version in the name of its file: 550.54.15 of libcuda.so.550.54.15."""
    found = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", path)
    return found[1] if found else None


def _library(path: str, mounted: bool | None, version: str | None) -> Library:
    named = version_of(path) or version
    return Library(path, named or UNKNOWN, UNKNOWN if mounted is None else mounted)


def _answer(event: Mapping[str, object]) -> ProbeAnswer:
    value = event.get("value")
    numbers = [part for part in value if isinstance(part, int)] if isinstance(value, list) else None
    code = _number(event.get("code"))
    return ProbeAnswer(
        str(event.get("name")),
        _number(event.get("device")),
        -1 if code is None else code,
        value if isinstance(value, str) else numbers,
    )


def _loaded(event: Mapping[str, object]) -> Loaded:
    path, mounted, version = event.get("path"), event.get("mounted"), event.get("version")
    return Loaded(
        path if isinstance(path, str) else None,
        mounted if isinstance(mounted, bool) else None,
        event.get("simulated") is True,
        version if isinstance(version, str) else None,
        str(event.get("error") or ""),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
