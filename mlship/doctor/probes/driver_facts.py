"""What `mlship.driver.ask` reported, as facts. Pure."""

import re
from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unknown, Unreadable
from mlship.doctor.facts.place import Library
from mlship.driver.answer import DriverAnswer, DriverCall, LoadedLibrary


@dataclass(frozen=True)
class DriverFacts:
    """Facts from a driver's answer; each says why it is missing."""

    answer: DriverAnswer

    def code(self, name: str, device: int | None = None) -> Fact[int]:
        """The return code of a call."""
        found = self.answer.call(name, device)
        return self.gap(name, device) if found is None else found.code

    def text(self, name: str, device: int | None = None) -> Fact[str]:
        found = self.answer.call(name, device)
        if found is None:
            return self.gap(name, device)
        return found.value if isinstance(found.value, str) else _failed(found)

    def number(self, name: str, device: int | None = None, place: int = 0) -> Fact[int]:
        """One of the numbers that a call gave."""
        found = self.answer.call(name, device)
        if found is None:
            return self.gap(name, device)
        number = self.answer.number(name, device, place)
        return _failed(found) if number is None else number

    def gap(self, name: str, device: int | None) -> Unreadable | Unknown:
        """Why a call has no answer: it hung, crashed or was not made."""
        answer = self.answer
        if answer.silent:
            return Unreadable(answer.stderr or "the program that asks did not run")
        if answer.pending != (name, device):
            return UNKNOWN
        return Unreadable(
            "no answer in time" if answer.timed_out else f"it ended the program that asked: {answer.crashed}"
        )

    @property
    def hangs_at(self) -> Fact[str]:
        return self._pending if self.answer.timed_out else None

    @property
    def crashes_at(self) -> Fact[str]:
        crashed = self.answer.crashed and not self.answer.silent
        return f"{self._pending} ({self.answer.crashed})" if crashed else None

    @property
    def _pending(self) -> str:
        return self.answer.pending_call or "loading it"


def _failed(call: DriverCall) -> Unreadable | Unknown | None:
    """Absent if the GPU lacks the feature (3), unknown if the driver lacks the call (13, 500)."""
    if call.code == 3:
        return None
    return UNKNOWN if call.code in {13, 500} else Unreadable(f"{call.name} returns {call.code}")


def library_fact(loaded: LoadedLibrary | None, version: str | None = None) -> Fact[Library]:
    """The file that a name resolved to; absent if the loader finds none.

    Args:
        version: of the driver, as the library itself reports it; used if the file name has none.
    """
    if loaded is None:
        return UNKNOWN
    if not loaded.error:
        if loaded.path is None:
            return Unreadable("its file was not found")
        return _library(loaded.path, loaded.mounted, loaded.version or version)
    # The loader names a file that it found and could not use: a broken one, or one for another processor.
    found = re.match(r"(/[^:]+): (?!cannot open shared object file: No such file)", loaded.error)
    return _library(found[1], None, None) if found else None


def driver_version_of(path: str) -> str | None:
    """The driver's version in a file name: 550.54.15 in libcuda.so.550.54.15."""
    found = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", path)
    return found[1] if found else None


def _library(path: str, mounted: bool | None, version: str | None) -> Library:
    named = driver_version_of(path) or version
    return Library(path, named or UNKNOWN, UNKNOWN if mounted is None else mounted)
