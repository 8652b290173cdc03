"""`mlship fetch`, and the downloads of `mlship lock` and `mlship build`."""

from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlship.cli.options import HERE, Directory
from mlship.console import say

if TYPE_CHECKING:
    from mlship.project.config import Config
    from mlship.weights.download import Progress


def fetch_command(directory: Directory = HERE) -> None:
    """Fetch the model files that are not in git.

    `model.sources` names where each comes from, and `mlship lock` records its hash: only a file with that hash is
    accepted. Downloads continue where they stopped, and are kept in mlship's cache.
    """
    from mlship.project.load import load_config

    config = load_config(directory)
    if not fetch_missing(directory, config):
        say("every file of `model.sources` is here" if config.model.sources else "mlship.yaml has no `model.sources`")


def fetch_missing(directory: Path, config: "Config") -> tuple[str, ...]:
    """Fetch what is not here; returns its paths."""
    from mlship.weights.locked import check_fetched

    if not config.model.sources:
        check_fetched(directory, config)
        return ()
    from mlship.weights.fetch import fetch_weights

    fetched = fetch_weights(directory, config, weight_cache(), downloading)
    for path in fetched:
        say(f"fetched {path} from {config.model.sources[path]}")
    return fetched


def lock_sources(directory: Path, config: "Config", *, again: bool, check: bool) -> None:
    """Record the hashes of `model.sources` and fetch the files, or only check that each has a hash."""
    from mlship.weights.fetch import lock_weights
    from mlship.weights.locked import FILE_NAME, check_weights_lock

    if check:
        check_weights_lock(directory, config)
        return
    for path in lock_weights(directory, config, weight_cache(), downloading, again=again):
        say(f"{FILE_NAME}: {path} from {config.model.sources[path]}")
    fetch_missing(directory, config)


def weight_cache() -> Path:
    """Where downloaded model files are kept, by their hashes."""
    from mlship.resources import cache_folder

    return cache_folder() / "weights"


def _transfer(what: str, path: str) -> AbstractContextManager["Progress"]:
    """A progress bar on a terminal, elsewhere a line once bytes arrive."""
    from mlship.cli.reporter import transfer

    once = cache(say)
    return transfer(path, lambda _done, _total: once(f"{what} {path}"))


downloading = partial(_transfer, "downloading")
uploading = partial(_transfer, "uploading")  # a file that is sent in parts
