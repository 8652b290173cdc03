"""Compares the scikit-learn that wrote a pickle with the one that is locked."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlship.lock.pins import Pin
from mlship.project.config import Config
from mlship.project.pickle_names import read_pickle_names


def written_by_another(repo: Path, config: Config, pins: Iterable[Pin]) -> Iterator[str]:
    """A sentence for each allowed pickle that another version of scikit-learn wrote."""
    locked = next((pin.version for pin in pins if pin.name == "scikit-learn"), None)
    for entry in config.model.allow_pickle:
        version = read_pickle_names(repo / entry.path).sklearn
        if version and locked and version != locked:
            yield (
                f"{entry.path} was written by scikit-learn {version}, and {locked} is locked, which may not read it: "
                f"require `scikit-learn=={version}`, or write the file again with {locked}"
            )
