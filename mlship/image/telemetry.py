"""Libraries that would call home from production, and the variable that tells them not to. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlship.lock.pins import Pin


@dataclass(frozen=True)
class Silence:
    """One library's switch.

    Attributes:
        prefix: of the names of its distributions.
        source: how it is known.
    """

    prefix: str
    variable: str
    value: str
    source: str


_KNOWN = (
    Silence(
        prefix="onnxruntime",
        variable="ORT_DISABLE_TELEMETRY",
        value="1",
        source="the Linux wheel of onnxruntime 1.32.0 holds this name beside mobile.events.data.microsoft.com",
    ),
)


def silenced(pins: Iterable[Pin]) -> tuple[Silence, ...]:
    """The switches of what the lock installs."""
    names = [pin.name for pin in pins]
    return tuple(known for known in _KNOWN if any(name.startswith(known.prefix) for name in names))
