"""Bytecode is a pure function of its source: whatever was compiled before, in any order, the bytes are the same."""

import os
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mlship.image.inside import bytecode

MODULES = 1_000
# Compiles the listed files in a new process, and prints a digest of each one's bytecode.
PROGRAM = """
import hashlib, sys, warnings
from pathlib import Path
from mlship.image.inside import bytecode
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
bytecode.CACHE = str(folder / "cache")
(folder / "cache").mkdir(parents=True)
for source in sys.stdin.read().splitlines():
    target = folder / "compiled.pyc"
    target.unlink(missing_ok=True)
    bytecode.compile_all([(source, str(target), source)])
    if target.exists():
        print(hashlib.sha256(target.read_bytes()).hexdigest(), source)
"""
# Prints the names of nested classes that only some processes import: one that installs, or that has a pool of others.
NESTED = """
import gc, sys
sys.path.insert(0, sys.argv[1])
import bytecode

def nested():
    return {one.__qualname__ for one in gc.get_objects() if isinstance(one, type) and "." in one.__qualname__}

before = nested()
import importlib.metadata
from concurrent.futures import ProcessPoolExecutor
list(importlib.metadata.distributions(path=sys.path))
with ProcessPoolExecutor(1) as pool:
    pool.submit(len, "").result()
print(*(nested() - before), sep="\\n")
"""


def compiled(files: list[str], folder: Path, seed: str) -> set[str]:
    program = [sys.executable, "-c", PROGRAM, str(folder)]
    env = {**os.environ, "PYTHONHASHSEED": seed}
    return set(
        subprocess.run(program, input="\n".join(files), capture_output=True, text=True, check=True, env=env)
        .stdout.strip()
        .splitlines()
    )


def test_names_of_nested_classes_are_interned_in_every_process() -> None:
    """Python 3.13 writes other bytecode for a class if another one of its name is imported, as `weakref` in a pool."""
    program = [sys.executable, "-IS", "-c", NESTED, str(Path(bytecode.__file__).parent)]
    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
    assert "finalize._Info" in found
    assert set(found) <= set(bytecode.CLASSES)


@pytest.mark.slow
def test_the_order_of_compiling_changes_nothing(tmp_path: Path) -> None:
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found = {path for folder in folders for path in folder.rglob("*.py") if 500 < path.stat().st_size < 20_000}
    files = [str(path) for path in sorted(found, key=lambda path: (path.stat().st_size, str(path)))[:MODULES]]
    letters = [tmp_path / "identifier.py", tmp_path / "text.py"]
    letters[0].write_text("".join(f"{letter} = 1\n" for letter in "äöüßñéµ"), encoding="utf-8")
    letters[1].write_text("".join(f"print('{letter}')\n" for letter in "äöüßñéµ 1-"), encoding="utf-8")
    files += map(str, letters)
    first = compiled(files[::-1], tmp_path / "1", "1")  # the texts before the identifiers
    random.Random(2).shuffle(files)
    second = compiled([str(letters[0]), *files], tmp_path / "2", "2")
    assert len(first) > MODULES * 0.95
    assert first == second
