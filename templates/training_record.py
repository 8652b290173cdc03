"""Record what a model was trained with. Copy this file beside the training script; it needs Python 3.8 and nothing else.

    from training_record import record

    record("model/metadata.json", files=["model/model.onnx"], metrics={"accuracy": 0.93})

Call it after the model's files are written: what was imported until then counts. `mlship build` refuses an image with
other versions of these libraries, or with other files (`model.metadata` in mlship.yaml).
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Dict, Iterable, List, Optional

SCHEMA = 1
_MODULE = re.compile(r"\.(py|so|pyd)$")


def record(path: "str | os.PathLike[str]", files: "Iterable[str | os.PathLike[str]]" = (), **more: object) -> Path:
    """Write the record, whole or not at all, and return its path.

    Args:
        path: JSON file, best beside the model.
        files: the model's files, inside the record's folder.
        more: further keys, such as metrics.

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
