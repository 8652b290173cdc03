"""Run the model of `serving/model.py` on one request at a time."""

from collections.abc import Hashable, Iterator, Sequence

from serving import model
from serving.errors import InvalidRequest
from serving.schema import decode, encode, to_plain


class Predictor:
    """The loaded model."""

    def __init__(self) -> None:
        loaded = model.load()
        self._predict = getattr(loaded, "predict", loaded)
        self.sample = model.SAMPLE.read_bytes()

    def parse(self, body: bytes) -> object:
        """Parse and validate a body."""
        return decode(body)

    def shape_of(self, payload: object) -> tuple[Hashable | None, int]:
        """Which payloads may run together with this one (none), and its rows."""
        return None, 1

    def together(self, payload: object, most: int) -> int:
        """How many of these payloads may run together."""
        return 1

    def run(self, payloads: Sequence[object]) -> list[object]:
        """Run the model, and read all of its outputs: generators run the model's code, too."""
        try:
            outputs = [self._predict(payload) for payload in payloads]
            outputs = [[*output] if isinstance(output, Iterator) else output for output in outputs]
        except model.REJECTS as error:
            raise InvalidRequest(f"{type(error).__name__}: {error}") from error
        return [to_plain(output) for output in outputs]

    def encode(self, output: object) -> bytes:
        """The body of a response."""
        return encode(output)
