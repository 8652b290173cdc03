"""Classify handwritten digits with a small PyTorch network, on a GPU if there is one.

python digits.py sample.json
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "model.safetensors"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PIXELS, HIDDEN, CLASSES = 64, 32, 10  # 8 x 8 pixels, each from 0 to 16
MAX_DIGITS = 256


class Network(nn.Module):
    """Map pixels to one score for each digit."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, HIDDEN)
        self.scores = nn.Linear(HIDDEN, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.scores(torch.relu(self.hidden(pixels / 16)))
        return scores


class Reader:
    """The predictor: ``{"pixels": [N, 64]}`` in, ``{"digits": [N], "probabilities": [N, 10]}`` out."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._device = next(network.parameters()).device

    @torch.inference_mode()
    def predict(self, payload: object) -> dict[str, Tensor]:
        """Classify the digits. A ValueError describes an invalid payload."""
        probabilities = self._network(read_pixels(payload).to(self._device)).softmax(dim=1).cpu()
        return {"digits": probabilities.argmax(dim=1), "probabilities": probabilities}


def read_pixels(payload: object) -> Tensor:
    """Return the pixels of the payload, one row for each digit."""
    rows = payload.get("pixels") if isinstance(payload, dict) else None
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_DIGITS:
        raise ValueError(f'expected {{"pixels": [[{PIXELS} numbers], ...]}}, 1 to {MAX_DIGITS} digits')
    pixels = torch.tensor(
        rows, dtype=torch.float32
    )  # a ValueError or TypeError if the rows are not numbers of one length
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS or not pixels.isfinite().all():
        raise ValueError(f"expected {PIXELS} finite numbers for each digit")
    return pixels


def load() -> Reader:
    """Load the model."""
    network = Network()
    network.load_state_dict(load_file(WEIGHTS))
    return Reader(network.to(DEVICE).eval())


if __name__ == "__main__":
    answer = load().predict(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps({name: tensor.tolist() for name, tensor in answer.items()}))
