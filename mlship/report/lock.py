"""The result of `mlship lock`: the number of pins, the duration and the changes since the previous lock."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlship.lock.pins import Pin
from mlship.lock.resolve import Resolved
from mlship.units import count_of, first_rows
from mlship.versioned import to_json


@dataclass(frozen=True)
class LockChange:
    """A package whose version changed; None where a lock lacks it."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before and self.after:
            return f"~ {self.name} {self.before} -> {self.after}"
        return f"- {self.name} {self.before}" if self.before else f"+ {self.name} {self.after}"


def lock_changes(before: tuple[Pin, ...], after: tuple[Pin, ...]) -> tuple[LockChange, ...]:
    """Added, removed and changed packages, by name."""
    old = {pin.name: pin.version for pin in before}
    new = {pin.name: pin.version for pin in after}
    found = (LockChange(name, old.get(name), new.get(name)) for name in sorted({*old, *new}))
    return tuple(change for change in found if change.before != change.after)


def lock_lines(resolved: Resolved, name: str, seconds: float) -> Iterator[str]:
    record = resolved.record
    yield f"{name}: {count_of(len(resolved.pins), 'pin')} with hashes, by {record.resolver} in {seconds:.1f} s"
    yield f"base image: {record.base}@{record.digest}"
    if resolved.previous:
        changes = map(str, lock_changes(resolved.previous, resolved.pins))
        yield from [f"  {row}" for row in first_rows(changes, 20)] or ["no pins changed"]


def lock_json(resolved: Resolved, seconds: float) -> str:
    return to_json(
        {
            "pins": len(resolved.pins),
            "resolver": resolved.record.resolver,
            "base": resolved.record.base,
            "digest": resolved.record.digest,
            "where": "this machine" if resolved.place.local else "base image",
            "why": resolved.place.reason,
            "seconds": round(seconds, 3),
            "changes": lock_changes(resolved.previous, resolved.pins),
            "doubts": resolved.doubts,
        }
    )
