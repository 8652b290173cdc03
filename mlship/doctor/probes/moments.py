"""Moments as ISO 8601, UTC, to the second."""

from datetime import UTC, datetime

from mlship.doctor.facts.fact import Fact, mapped


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_after(booted: Fact[str], seconds: float) -> Fact[str]:
    """The moment this long after another one, such as the boot."""
    return mapped(booted, lambda start: moment(datetime.fromisoformat(start).timestamp() + seconds))


def moment_of(said: str | None) -> str | None:
    """Docker's and Kubernetes' times (nanoseconds, any offset) to the second, UTC; None for year 1, their "never"."""
    if not said or said.startswith("0001-"):
        return None
    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        return None
    return moment(when.timestamp())
