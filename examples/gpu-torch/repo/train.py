"""Train the network of digits.py on scikit-learn's bundled digits.

    pip install -r requirements-train.txt && python train.py

Writes three files next to this script: ``model.safetensors``, ``sample.json`` (one request) and
``golden.json`` (the model's answer to it, on the CPU).
"""

import json
from pathlib import Path

import torch
from digits import WEIGHTS, Network, Reader
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 300
SAMPLE_ROWS = 2
LEAST_ACCURACY = 0.97


def train(pixels: Tensor, labels: Tensor) -> Network:
    """Fit the network on all digits at once, since they are few."""
    torch.manual_seed(SEED)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
    return network.eval()


def write_json(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as nested lists."""
    lists = {name: tensor.tolist() for name, tensor in tensors.items()}
    path.write_text(json.dumps(lists) + "\n", encoding="utf-8")


def main() -> None:
    """Train, check the model on unseen digits, and write the files."""
    data, target = load_digits(return_X_y=True)
    train_data, test_data, train_target, test_target = train_test_split(
        data, target, test_size=0.25, random_state=SEED, stratify=target
    )
    network = train(torch.tensor(train_data, dtype=torch.float32), torch.tensor(train_target))
    test_pixels = torch.tensor(test_data, dtype=torch.float32)
    with torch.inference_mode():
        accuracy = (network(test_pixels).argmax(dim=1) == torch.tensor(test_target)).float().mean().item()
    print(f"accuracy on {len(test_target)} unseen digits: {accuracy:.3f}")
    if accuracy < LEAST_ACCURACY:
        raise SystemExit(f"refusing to save: accuracy is below {LEAST_ACCURACY}")

    save_file(network.state_dict(), WEIGHTS)
    sample = {"pixels": test_pixels[:SAMPLE_ROWS]}
    write_json(HERE / "sample.json", sample)
    write_json(HERE / "golden.json", Reader(network).predict({"pixels": sample["pixels"].tolist()}))


if __name__ == "__main__":
    main()
