"""The values that inputs may have, from `features` of `metadata.json`. Null is refused, or replaced by its rule."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from prometheus_client import Counter

from serving.errors import InvalidRequest
from serving.feature_limits import Limits, Name, Schema, describe, parsed
from serving.settings import Settings, read

if TYPE_CHECKING:
    from serving.tensors import Tensor

METADATA = Path(__file__).resolve().parents[1] / "metadata.json"
_LABELS = ("model_version", "feature", "problem")
_COUNTED = Counter("serving_feature_problems", "Null values, and requests with values out of range.", _LABELS)
Arrays = dict[str, np.ndarray]


class Features:
    """The limits of the inputs of a model. Raises ValueError if the model has no such inputs."""

    def __init__(self, inputs: "dict[str, Tensor]") -> None:
        found = msgspec.convert(json.loads(METADATA.read_bytes())["features"], dict[str, Limits])
        self._features = {parsed(name): limits for name, limits in found.items()}
        self._inputs = inputs
        self._edges = {name: _edges(tensor) for name, tensor in inputs.items() if tensor.dtype.kind in "fiu"}
        for (name, column), limits in self._features.items():
            flag = parsed(limits.indicator) if limits.indicator else (name, column)
            for one, place in ((name, column), flag):
                width = (inputs[one].shape or (None,))[-1] if one in self._edges else None
                if one not in self._edges or (place is not None and place >= (width or 0)):
                    raise ValueError(f"{METADATA.name}: the model has no numbers at `{_label((one, place))}`")
            if limits.missing is not None and {inputs[name].dtype.kind, inputs[flag[0]].dtype.kind} != {"f"}:
                raise ValueError(f"{METADATA.name}: `missing` of `{name}` needs inputs of type float")
            for edge, value in enumerate((limits.low, limits.high)):
                if value is not None:
                    self._edges[name][edge, ... if column is None else column] = value

    def admit(self, arrays: Arrays) -> Arrays:
        """The arrays with nulls replaced. Raises InvalidRequest for values out of range, and for other nulls."""
        wrong = {
            name: np.asarray(~((arrays[name] >= low) & (arrays[name] <= high)))
            for name, (low, high) in self._edges.items()
        }
        if not any(one.any() for one in wrong.values()):
            return arrays
        arrays = arrays | {name: np.array(arrays[name]) for name in wrong}
        for feature, limits in self._features.items():
            if limits.missing is not None:
                self._replace(arrays, wrong, feature, limits)
        for name, where in wrong.items():
            if where.any():
                raise self._refusal(name, arrays[name], [int(one) for one in np.argwhere(where)[0]])
        return arrays

    def describe(self, schema: Schema) -> None:
        """Add the limits, which are at most those of the types, to the schema of a request."""
        every: dict[Name, Limits] = {}
        for name, columns in self._edges.items():
            dtype = self._inputs[name].dtype
            ends = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            for column in range(columns.shape[1]) if self._inputs[name].shape[-1:] == columns.shape[1:] else [None]:
                given = self._features.get((name, column)) or self._features.get((name, None)) or Limits()
                low, high = given.low, given.high
                low, high = float(ends.min) if low is None else low, float(ends.max) if high is None else high
                every[name, column] = msgspec.structs.replace(given, low=low, high=high)
        describe(schema, every)

    def _replace(self, arrays: Arrays, wrong: Arrays, feature: Name, limits: Limits) -> None:
        """Replace the nulls of a feature."""
        values, refused = _view(arrays, feature), _view(wrong, feature)
        null = np.isnan(values)
        refused &= ~null
        if count := int(null.sum()):
            _count(feature, "null", count)
        if limits.indicator is None or limits.missing is None:
            return  # NaN remains
        values[null] = limits.missing
        flag = parsed(limits.indicator)
        flags, refused = _view(arrays, flag), _view(wrong, flag)
        if flags.shape != null.shape:
            raise InvalidRequest(f"expected the shape of `{feature[0]}`", f"$.{flag[0]}")
        unsaid = np.isnan(flags)
        flags[unsaid] = null[unsaid]
        refused &= ~unsaid
        refused |= null & (flags != 1)

    def _refusal(self, name: str, array: np.ndarray, place: list[int]) -> InvalidRequest:
        """The error for the value at a place."""
        path = f"$.{name}" + "".join(f"[{index}]" for index in place)
        column = (name, place[-1] if place else None)
        null = bool(np.isnan(array[tuple(place)]))
        _count(column if column in self._features else (name, None), "null refused" if null else "out of range", 1)
        if null:
            return InvalidRequest("expected a number, got null", path)
        low, high = self._edges[name][:, place[-1] if place and self._edges[name].shape[-1] > 1 else 0]
        limits = [f">= {low:g}"] * bool(low > -np.inf) + [f"<= {high:g}"] * bool(high < np.inf)
        return InvalidRequest(f"expected a number {' and '.join(limits) or 'that says which value is null'}", path)


@cache
def features_of(inputs: "tuple[tuple[str, Tensor], ...]") -> Features:
    """The limits of the inputs of a model, read once."""
    return Features(dict(inputs))


def _edges(tensor: "Tensor") -> np.ndarray:
    """Lowest and highest values: of each column if their number is fixed, else of all."""
    kind = tensor.dtype if tensor.dtype.kind == "f" else np.float64  # float32 rounds both sides alike
    return np.array([[-np.inf], [np.inf]], kind).repeat((tensor.shape or (1,))[-1] or 1, axis=1)


def _view(arrays: Arrays, feature: Name) -> np.ndarray:
    name, column = feature
    return arrays[name] if column is None else arrays[name][..., column]


def _label(feature: Name) -> str:
    name, column = feature
    return name if column is None else f"{name}[{column}]"


def _count(feature: Name, problem: str, number: int) -> None:
    _COUNTED.labels(read(Settings).model_version, _label(feature), problem).inc(number)
