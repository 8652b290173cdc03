"""Record what a model was trained with. Copy this file beside the training script; it needs Python 3.8 and nothing else.

    from training_record import record

    record("metadata.json", files=["model.onnx"], metrics={"accuracy": 0.93}, statistics=statistics({"age": ages}))

Call it after the model's files are written: what was imported until then counts. `mlship build` refuses an image with
other versions of these libraries, or with other files (`model.metadata` in mlship.yaml).
"""

import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from bisect import bisect_right
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional

SCHEMA = 1
_MODULE = re.compile(r"\.(py|so|pyd)$")


def record(path: "str | os.PathLike[str]", files: "Iterable[str | os.PathLike[str]]" = (), **more: object) -> Path:
    """Write the record, whole or not at all, and return its path.

    Args:
        path: JSON file, best beside the model.
        files: the model's files, inside the record's folder.
        more: further keys, such as metrics and statistics.

    Raises:
        ValueError: a file is outside the record's folder.
    """
    target = Path(path).resolve()
    installed = _installed()
    content = {
        **more,
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}".lower(),
        "cuda": _cuda(),
        "git": _git(),
        "packages": {name: installed[name].version for name in sorted(installed)},
        "imported": _imported(installed),
        "files": {_relative(file, target.parent): _described(Path(file)) for file in files},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=str(target.parent), prefix=".metadata.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2, allow_nan=False)
            stream.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, str(target))
    except BaseException:
        os.unlink(temporary)
        raise
    return target


def statistics(
    inputs: "Mapping[str, Iterable[object]]",
    outputs: "Mapping[str, Iterable[object]]" = {},
    probabilities: Optional[str] = None,
) -> "Dict[str, object]":
    """What the model saw, for `/metrics` of the server that `mlship init` writes: drift is the difference from it.

    Args:
        inputs: the values of each feature in the training data, by the name that requests have; None and NaN count as
            missing. Features without two different values are left out.
        outputs: predictions on the training data, likewise.
        probabilities: name of the output with a probability for each class.
    """
    described = {"inputs": _features(inputs), "outputs": _features(outputs)}
    return {**described, **({"probabilities": probabilities} if probabilities else {})}


def _features(columns: "Mapping[str, Iterable[object]]") -> "Dict[str, object]":
    found = ((name, _feature(values)) for name, values in columns.items())
    return {name: feature for name, feature in found if feature}


def _feature(values: "Iterable[object]") -> "Optional[Dict[str, object]]":
    """The deciles that differ, with the share of the values up to each; the largest value is no decile."""
    numbers = [float("nan") if value is None else float(value) for value in values]  # type: ignore[arg-type]
    there = sorted(number for number in numbers if math.isfinite(number))
    count = len(there)
    deciles = {there[max(0, math.ceil(count * tenth / 10) - 1)] for tenth in range(1, 10)} if there else set()
    edges = sorted(deciles - {there[-1]}) if there else []
    if not edges:
        return None
    up_to = [0, *(bisect_right(there, edge) for edge in edges), count]
    mean = math.fsum(there) / count
    return {
        "deciles": edges,
        "shares": [(high - low) / count for low, high in zip(up_to, up_to[1:])],
        "mean": mean,
        "variance": math.fsum((number - mean) ** 2 for number in there) / count,
        "null_rate": 1 - count / len(numbers),
    }


def _installed() -> "Dict[str, Distribution]":
    """The distributions that this process can import, the first of each name."""
    found: Dict[str, Distribution] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name and each.version:
            found.setdefault(_normalised(name), each)
    return found


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(installed: "Dict[str, Distribution]") -> Dict[str, str]:
    """Top-level modules of this process, and the package of each that belongs to one only."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    owners: Dict[str, List[str]] = {}
    for name, each in installed.items():
        for top in _modules(each) & loaded:
            owners.setdefault(top, []).append(name)
    return {top: names[0] for top, names in sorted(owners.items()) if len(names) == 1}


def _modules(each: Distribution) -> "set[str]":
    """The top-level modules of a package."""
    if each.files is None:
        return set((each.read_text("top_level.txt") or "").split())
    names = (file.parts[0] for file in each.files if _MODULE.search(file.name) and ".." not in file.parts)
    return {_MODULE.sub("", name).partition(".")[0] for name in names}


def _cuda() -> Optional[str]:
    torch = sys.modules.get("torch")
    return getattr(getattr(torch, "version", None), "cuda", None)


def _git() -> "Optional[Dict[str, object]]":
    """The commit of the folder that the training runs in; None outside of git."""
    commit = _output("rev-parse", "HEAD")
    changed = _output("status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if changed is None else changed != ""} if commit else None


def _output(*command: str) -> Optional[str]:
    try:
        done = subprocess.run(["git", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _relative(file: "str | os.PathLike[str]", folder: Path) -> str:
    try:
        return Path(file).resolve().relative_to(folder).as_posix()
    except ValueError:
        raise ValueError(f"`{file}` is not below the folder of the record, `{folder}`") from None


def _described(file: Path) -> "Dict[str, object]":
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "size": file.stat().st_size}
