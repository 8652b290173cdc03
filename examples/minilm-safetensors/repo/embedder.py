"""Embed sentences with all-MiniLM-L6-v2: similar meanings give vectors of similar direction.

python embedder.py sample.json
"""

import json
import sys
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from bert import Bert, BertConfig

WEIGHTS = Path(__file__).parent / "weights"
MAX_TOKENS = 256  # the training length of the model; longer texts are truncated
MAX_TEXTS = 64
NOT_IN_THE_ENCODER = ("embeddings.position_ids", "pooler.")


class Embedder:
    """The predictor: ``{"texts": ["...", "..."]}`` in, ``{"embeddings": [texts, 384]}`` out, each of length 1."""

    def __init__(self, tokenizer: Tokenizer, encoder: Bert) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder

    @torch.inference_mode()
    def predict(self, payload: object) -> dict[str, Tensor]:
        """Embed the texts. A ValueError describes an invalid payload."""
        encodings = self._tokenizer.encode_batch(read_texts(payload))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        return {"embeddings": functional.normalize(mean_pool(self._encoder(ids, mask), mask))}


def read_texts(payload: object) -> list[str]:
    """Return the texts of the payload."""
    texts = payload.get("texts") if isinstance(payload, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('expected {"texts": ["...", "..."]}')
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"expected 1 to {MAX_TEXTS} texts, got {len(texts)}")
    return texts


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of every text's token vectors, without padding."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def load_tokenizer(path: Path) -> Tokenizer:
    """Load the tokenizer, which pads a batch to its longest text."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def load_encoder(config_path: Path, weights_path: Path) -> Bert:
    """Build the encoder on the memory-mapped weights, without initialising or copying parameters."""
    config = json.loads(config_path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        encoder = Bert(BertConfig(**{field.name: config[field.name] for field in fields(BertConfig)}))
    weights = {
        name: weight for name, weight in load_file(weights_path).items() if not name.startswith(NOT_IN_THE_ENCODER)
    }
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval()


def load() -> Embedder:
    """Load the model."""
    encoder = load_encoder(WEIGHTS / "config.json", WEIGHTS / "model.safetensors")
    return Embedder(load_tokenizer(WEIGHTS / "tokenizer.json"), encoder)


if __name__ == "__main__":
    answer = load().predict(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps({name: tensor.tolist() for name, tensor in answer.items()}))
