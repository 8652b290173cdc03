"""Run the model of `serving/model.py` on arrays, with several requests at a time if it has a batch axis."""

import logging
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from serving import model
from serving.openinference import datatype
from serving.schema import decode, encode, to_plain
from serving.tensors import Arrays, Checked, finite, to_arrays

log = logging.getLogger("serving")


class Predictor:
    """The loaded model."""

    def __init__(self) -> None:
        self._model = model.load()
        self.inputs = self._model.inputs
        self.sample = model.SAMPLE.read_bytes()
        self.example = self.run([self.parse(self.sample)])[0]
        self.batches = self._batches()
        log.info("requests run together" if self.batches else "requests run one at a time")

    def parse(self, body: bytes) -> Arrays:
        """Parse and validate a body."""
        payload = decode(body)
        assert isinstance(payload, Mapping)
        return self.checked(payload)

    def checked(self, payload: Mapping[str, object]) -> Arrays:
        """Validate arrays, or nested lists."""
        return to_arrays(payload, self.inputs)

    def shape_of(self, payload: Arrays) -> tuple[Hashable | None, int]:
        """Which payloads may run together with this one, and its rows."""
        if not self.batches:
            return None, 1
        arrays = [*payload.values()]
        if len({len(array) for array in arrays}) > 1:  # rows of one request would meet those of another
            return None, 1
        return tuple(array.shape[1:] for array in arrays), len(arrays[0])

    def together(self, payload: Arrays, most: int) -> int:
        """How many of these payloads may run together."""
        return max(1, most // self.shape_of(payload)[1]) if self.batches else 1

    def run(self, payloads: Sequence[Arrays]) -> list[Arrays]:
        """Run the model once."""
        if len(payloads) == 1:
            return [self._model.predict(payloads[0])]
        joined = Checked({name: np.concatenate([payload[name] for payload in payloads]) for name in payloads[0]})
        outputs = self._model.predict(joined)
        rows = [len(next(iter(payload.values()))) for payload in payloads]
        if any(len(output) != sum(rows) for output in outputs.values()):
            raise RuntimeError(f"the model returned other than {sum(rows)} rows")
        ends = np.cumsum(rows)
        slices = [slice(end - count, end) for end, count in zip(ends, rows, strict=True)]
        return [{name: output[part] for name, output in outputs.items()} for part in slices]

    def encode(self, output: Arrays) -> bytes:
        """The body of a response."""
        return encode({name: _plain(array) for name, array in finite(output).items()})

    def described(self) -> dict[str, object]:
        """The tensors, for the Open Inference Protocol; outputs as those of the sample, -1 for a length that varies."""
        inputs = [_described(name, one.dtype, one.shape) for name, one in self.inputs.items()]
        outputs = []
        for name, array in ((name, np.asarray(output)) for name, output in self.example.items()):
            shape = (None, *array.shape[1:]) if self.batches and array.ndim else array.shape
            outputs.append(_described(name, array.dtype, shape))
        return {"platform": "python", "inputs": inputs, "outputs": outputs}

    def _batches(self) -> bool:
        """Whether rows are independent: the sample and a variant give the same outputs alone and together."""
        if not self._model.batch_axis:
            return False
        first = self.parse(self.sample)
        if len({len(array) for array in first.values()}) != 1:
            return False
        second = Checked({name: _variant(array) for name, array in first.items()})
        if all(np.array_equal(first[name], second[name]) for name in first):  # such as zeros: equal rows prove nothing
            return False
        try:
            alone = [self.run([payload])[0] for payload in (second, first, second)]
            together = self.run([second, first, second])
        except Exception:
            log.info("the model does not run on several requests together", exc_info=True)
            return False
        pairs = [(one[name], other[name]) for one, other in zip(alone, together, strict=True) for name in one]
        return all(a.shape == b.shape and _close(a, b) for a, b in pairs)


def _plain(output: object) -> object:
    """Numbers were seen to be finite."""
    return output.tolist() if isinstance(output, np.ndarray) and output.dtype.kind in "fiub" else to_plain(output)


def _described(name: str, dtype: np.dtype, shape: Sequence[int | None]) -> dict[str, object]:
    return {"name": name, "datatype": datatype(dtype), "shape": [-1 if n is None else n for n in shape]}


def _variant(array: np.ndarray) -> np.ndarray:
    """Other values in the range of these; for equal numbers, a ramp."""
    rolled = np.roll(array.ravel(), 1)
    if array.dtype.kind == "f" and (rolled == rolled[0]).all():
        rolled = rolled + np.linspace(0.5, 1, rolled.size, dtype=array.dtype)
    return rolled.reshape(array.shape)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind not in "fc":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True))
