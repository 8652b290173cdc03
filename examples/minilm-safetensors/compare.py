"""Check that repo/embedder.py gives the same answers as the transformers library with the same weights.

pip install "torch==2.13.0+cpu" transformers && python fetch.py && python compare.py
"""

import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "repo" / "weights"
TOLERANCE = 1e-5
sys.path.insert(0, str(HERE / "repo"))

from embedder import MAX_TEXTS, MAX_TOKENS, load  # noqa: E402


@torch.inference_mode()
def reference(texts: list[str]) -> torch.Tensor:
    """Embed the texts as the model card on Hugging Face shows."""
    tokenizer = BertTokenizerFast(tokenizer_file=str(WEIGHTS / "tokenizer.json"))
    model = BertModel.from_pretrained(WEIGHTS, config=BertConfig.from_pretrained(WEIGHTS), local_files_only=True).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


def main() -> None:
    """Compare on short, long, empty and non-English texts."""
    prose = [line.strip() for path in sorted(HERE.rglob("*.py")) for line in path.read_text().splitlines()]
    texts = ["", "a", "naïve café, 東京, 🙂", "word " * 1000, *prose][:MAX_TEXTS]
    difference = float((load().predict({"texts": texts})["embeddings"] - reference(texts)).abs().max())
    print(f"{len(texts)} texts compared, largest difference {difference:.1e}")
    raise SystemExit(difference > TOLERANCE)


if __name__ == "__main__":
    main()
