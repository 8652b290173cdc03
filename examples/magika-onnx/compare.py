"""Check that repo/classifier.py gives the same answers as the magika package.

pip install magika==1.0.3 && python fetch.py && python compare.py [FILE ...]

Without files, compare on this folder, this Python interpreter and its standard library.
"""

import base64
import importlib.util
import json
import sys
import sysconfig
from pathlib import Path

from magika import Magika

HERE = Path(__file__).resolve().parent
REPO = HERE / "repo"
TOLERANCE = 1e-5
sys.path.insert(0, str(REPO))

from classifier import load  # noqa: E402


def default_files() -> list[Path]:
    """Return text and binary files that every machine has."""
    library = Path(sysconfig.get_path("stdlib"))
    compiled = Path(importlib.util.cache_from_source(str(library / "os.py")))
    own = [path for path in sorted(HERE.rglob("*")) if path.is_file() and path.stat().st_size < 10_000_000]
    return [path for path in [*own, *sorted(library.glob("*.py")), compiled, Path(sys.executable)] if path.is_file()]


def main() -> None:
    """Compare label and score, file by file."""
    labels = json.loads((REPO / "weights" / "config.json").read_text(encoding="utf-8"))["target_labels_space"]
    ours, theirs = load(), Magika()
    compared, wrong, seen = 0, 0, set()
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else default_files():
        content = path.read_bytes()
        expected = theirs.identify_bytes(content).prediction
        if expected.dl.label == "undefined":  # magika does not run its model on very short content
            continue
        answer = ours.predict({"content_base64": base64.b64encode(content).decode()})
        label, score = labels[int(answer["label"][0])], float(answer["scores"].max())
        compared += 1
        seen.add(label)
        if label != expected.dl.label or abs(score - expected.score) > TOLERANCE:
            wrong += 1
            print(f"{path}: {label} {score:.6f}, magika says {expected.dl.label} {expected.score:.6f}")
    print(f"{compared} files of {len(seen)} types compared, {wrong} differ")
    raise SystemExit(1 if wrong or not compared else 0)


if __name__ == "__main__":
    main()
