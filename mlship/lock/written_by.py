"""Compares the scikit-learn that wrote a pickle with the one that is locked."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlship.frameworks import has_wheel
from mlship.lock.pins import Pin
from mlship.project.config import Config
from mlship.project.sklearn_version import sklearn_of


def written_by_another(repo: Path, config: Config, pins: Iterable[Pin]) -> Iterator[str]:
    """A sentence for each other version of scikit-learn that wrote allowed pickles."""
    locked = next((pin.version for pin in pins if pin.name == "scikit-learn"), None)
    found: dict[str, list[str]] = {}
    for entry in config.model.allow_pickle:
        if version := sklearn_of(repo / entry.path):
            found.setdefault(version, []).append(entry.path)
    for version, paths in found.items():
        if locked and version != locked:
            fix = f"write the {'file' if len(paths) == 1 else 'files'} again with {locked}"
            if has_wheel("sklearn", version, config.python):
                fix = f"require `scikit-learn=={version}`, or {fix}"
            written = f"{', '.join(paths)} {'was' if len(paths) == 1 else 'were'} written by scikit-learn {version}"
            yield f"{written}, and {locked} is locked, which may not read {'it' if len(paths) == 1 else 'them'}: {fix}"
