"""Repositories with a model and the record of its training."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
YAML = """\
name: digits
model:
  load: "model:load"
  weights: [model/model.safetensors]
  metadata: model/metadata.json
  sample: sample.json
  golden: golden.json
serve: {command: [python]}
source: [model]
"""


def trained(repo: Path, seed: int = 0, **record: object) -> Path:
    """A repository whose model has values of its own, as a training script leaves it."""
    (repo / "model").mkdir(parents=True)
    (repo / "mlship.yaml").write_text(YAML)
    (repo / "sample.json").write_text("[1, 2]")
    (repo / "golden.json").write_text(json.dumps([seed]))
    model = repo / "model/model.safetensors"
    save_file({"w": np.arange(seed, seed + 4096, dtype=np.float32)}, model)
    described = {"sha256": sha256(model.read_bytes()).hexdigest(), "size": model.stat().st_size}
    written = {
        "schema": 1,
        "created": "2026-11-29T02:44:09+00:00",
        "python": "3.11.7",
        "platform": "linux x86_64",
        "git": {"commit": COMMIT, "dirty": False},
        "packages": {"numpy": "2.3.5"},
        "metrics": {"accuracy": 0.9},
        "files": {"model.safetensors": described},
        **record,
    }
    (repo / "model/metadata.json").write_text(json.dumps({k: v for k, v in written.items() if v is not None}))
    return repo
