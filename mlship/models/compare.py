"""What differs between two registered models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mlship.models.registered import RegisteredModel


@dataclass(frozen=True)
class ModelChange:
    """A fact that differs; None where a model does not have it.

    Attributes:
        kind: "training", "package", "file", "metric" or "statistic".
    """

    kind: str
    name: str
    before: JsonValue
    after: JsonValue


def model_changes(before: RegisteredModel, after: RegisteredModel) -> tuple[ModelChange, ...]:
    """All differences, by kind and name."""
    return tuple(
        ModelChange(kind, name, old.get(name), new.get(name))
        for (kind, old), new in zip(_facts(before).items(), _facts(after).values(), strict=True)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _facts(model: RegisteredModel) -> Mapping[str, Mapping[str, JsonValue]]:
    statistics = model.statistics if isinstance(model.statistics, dict) else {}
    return {
        "training": {
            "commit": model.git.commit if model.git else None,
            "cuda": model.cuda,
            "dirty": model.git.dirty if model.git else None,
            "platform": model.platform,
            "python": model.python,
        },
        "package": dict(model.packages),
        "file": {path: f"sha256:{file.sha256}" for path, file in model.files.items()},
        "metric": model.metrics,
        "statistic": dict(_leaves(statistics)),
    }


def _leaves(value: Mapping[str, JsonValue], path: str = "") -> Iterable[tuple[str, JsonValue]]:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _leaves(part, f"{path}{name}.")
        else:
            yield f"{path}{name}", part
