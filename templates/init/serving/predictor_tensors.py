"""Run the model of `serving/model.py` on arrays, with several requests at a time if it has a batch axis."""

import logging
from collections.abc import Hashable, Mapping, Sequence

import msgspec
import numpy as np

from serving import model
from serving.errors import NotFinite
from serving.schema import decode, to_plain
from serving.tensors import Arrays, Checked, to_arrays

_encoder = msgspec.json.Encoder(enc_hook=np.ndarray.tolist)
log = logging.getLogger("serving")


class Predictor:
    """The loaded model."""

    def __init__(self) -> None:
        self._model = model.load()
        self.inputs = self._model.inputs
        self.sample = model.SAMPLE.read_bytes()
        self.example = self.run([self.parse(self.sample)])[0]
        self.batches = self._model.batch_axis and self._rows_are_independent()
        log.info("requests run together" if self.batches else "requests run one at a time")

    def parse(self, body: bytes) -> Arrays:
        """Parse and validate a body."""
        return self.checked(decode(body))

    def checked(self, payload: Mapping[str, object]) -> Arrays:
        """Validate arrays, or nested lists."""
        return to_arrays(payload, self.inputs)

    def shape_of(self, payload: Arrays) -> tuple[Hashable | None, int]:
        """Which payloads may run together with this one, and its rows."""
        shapes = [array.shape for array in payload.values()]
        if not self.batches or len({rows for rows, *_ in shapes}) > 1:  # rows of one request would meet another's
            return None, 1
        return tuple(shape[1:] for shape in shapes), shapes[0][0]

    def run(self, payloads: Sequence[Arrays]) -> list[Arrays]:
        """Run the model once. Raises NotFinite."""
        outputs = self._run(payloads)
        return [{name: _checked(name, output) for name, output in one.items()} for one in outputs]

    def encode(self, output: Arrays) -> bytes:
        """The body of a response."""
        return _encoder.encode({"outputs": output})

    def _run(self, payloads: Sequence[Arrays]) -> list[Arrays]:
        if len(payloads) == 1:
            return [self._model.predict(payloads[0])]
        joined = Checked({name: np.concatenate([payload[name] for payload in payloads]) for name in payloads[0]})
        outputs = self._model.predict(joined)
        ends = np.cumsum([len(next(iter(payload.values()))) for payload in payloads])
        if any(len(output) != ends[-1] for output in outputs.values()):
            raise RuntimeError(f"the model returned other than {ends[-1]} rows")
        slices = [slice(start, end) for start, end in zip((0, *ends), ends, strict=False)]
        return [{name: output[part] for name, output in outputs.items()} for part in slices]

    def _rows_are_independent(self) -> bool:
        """Whether the sample and a variant give the same outputs alone and together."""
        first = self.parse(self.sample)
        second = Checked({name: _variant(array) for name, array in first.items()})
        if all(np.array_equal(first[name], second[name]) for name in first):  # such as zeros: equal rows prove nothing
            return False
        payloads = [second, first, second]
        try:
            alone = [self._run([payload])[0] for payload in payloads]
            together = self._run(payloads)
            return all(_close(one[name], two[name]) for one, two in zip(alone, together, strict=True) for name in one)
        except Exception:
            log.info("the model does not run on several requests together", exc_info=True)
            return False


def _checked(name: str, output: object) -> np.ndarray:
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
        return np.asarray(to_plain(output), dtype=object)
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        raise NotFinite(f"the model output `{name}` contains NaN or infinity")
    return output


def _variant(array: np.ndarray) -> np.ndarray:
    """Other values in the range of these; for equal numbers, a ramp."""
    rolled = np.roll(array.ravel(), 1)
    if array.dtype.kind == "f" and (rolled == rolled[0]).all():
        rolled = rolled + np.linspace(0.5, 1, rolled.size, dtype=array.dtype)
    return rolled.reshape(array.shape)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
