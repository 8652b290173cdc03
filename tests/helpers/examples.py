"""The examples: a scratch copy of the bare repository, and the expected result."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes, safetensors, write

ROOT = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """`examples/<name>/expect.toml`; the constructor rejects unknown keys.

    Attributes:
        gpu: it is for GPUs, so its image has gigabytes of CUDA: its plans are tested, and no test builds it.
    """

    name: str
    summary: str
    python: str
    framework: str
    weights: list[str]
    load: str
    server: str
    port: int
    sample: str
    max_seconds: int
    fetch: str | None = None
    gpu: bool = False

    def copy(self, target: Path) -> Path:
        """The bare repository, without the weights that are not committed."""
        repo = target / self.name
        left_out = (
            shutil.ignore_patterns("weights", "__pycache__") if self.fetch else shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(ROOT / self.name / "repo", repo, ignore=left_out)
        return repo

    def with_weights(self, target: Path) -> Path:
        """The bare repository; a model that is not committed comes from the package index."""
        repo = self.copy(target)
        if self.fetch:
            subprocess.run([sys.executable, ROOT / self.name / self.fetch, repo], check=True, timeout=limit(300))
        return repo


def examples() -> list[Example]:
    """All examples, sorted by name."""
    return [
        Example(name=path.parent.name, **tomllib.loads(path.read_text())) for path in sorted(ROOT.glob("*/expect.toml"))
    ]


def with_tiny_weights(example: Example, repo: Path) -> Path:
    """Stand-ins in the right format for a downloaded model."""
    for path in example.weights if example.fetch else ():
        content = onnx_bytes() if path.endswith(".onnx") else safetensors()
        write(repo, {path: content, f"{Path(path).parent}/config.json": "{}"})
    return repo
