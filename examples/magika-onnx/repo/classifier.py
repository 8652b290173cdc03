"""Score content for 214 content types with magika's model.

The model sees the first and the last 1024 bytes. ``target_labels_space`` in ``weights/config.json``
lists the types in the order of the scores.

    python classifier.py sample.json
"""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "weights"

Features = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureConfig:
    """How bytes become the model's input."""

    beg_size: int
    end_size: int
    block_size: int
    padding_token: int
    min_file_size_for_dl: int

    @classmethod
    def read(cls, path: Path) -> "FeatureConfig":
        config = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{name: int(config[name]) for name in cls.__dataclass_fields__})

    def features(self, content: bytes) -> Features:
        """Return the bytes of both ends without outer whitespace, padded in the middle."""
        begin = content[: self.block_size].lstrip()[: self.beg_size]
        end = content[-self.block_size :].rstrip()[-self.end_size :]
        if len(begin) < self.min_file_size_for_dl:
            raise ValueError(f"content is too short: the model needs {self.min_file_size_for_dl} bytes or more")
        features = np.full(self.beg_size + self.end_size, self.padding_token, dtype=np.int32)
        features[: len(begin)] = np.frombuffer(begin, dtype=np.uint8)
        features[len(features) - len(end) :] = np.frombuffer(end, dtype=np.uint8)
        return features


class Classifier:
    """The predictor: ``{"content_base64": "..."}`` in, ``{"label": [1], "scores": [1, 214]}`` out."""

    def __init__(self, session: ort.InferenceSession, config: FeatureConfig) -> None:
        self._session = session
        self._config = config
        self._input = session.get_inputs()[0].name

    def predict(self, payload: object) -> dict[str, NDArray[np.generic]]:
        """Classify the content. A ValueError describes an invalid payload."""
        features = self._config.features(decode(payload))
        scores: Scores = self._session.run(None, {self._input: features[np.newaxis]})[0]
        return {"label": scores.argmax(axis=1), "scores": scores}


def decode(payload: object) -> bytes:
    """Return the content of the payload."""
    if not isinstance(payload, dict) or "content_base64" not in payload:
        raise ValueError('expected {"content_base64": "..."}')
    try:
        return base64.b64decode(payload["content_base64"], validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"content_base64 is not base64: {error}") from error


def load() -> Classifier:
    """Load the model."""
    session = ort.InferenceSession(WEIGHTS / "model.onnx", providers=["CPUExecutionProvider"])
    return Classifier(session, FeatureConfig.read(WEIGHTS / "config.json"))


if __name__ == "__main__":
    answer = load().predict(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps({name: array.tolist() for name, array in answer.items()}))
