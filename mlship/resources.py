"""The only module that knows where files of mlship lie: in a wheel, an editable install, a checkout, a cache."""

import os
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def template_root() -> Traversable:
    """The folder of templates: inside the package in a wheel, beside it in a checkout."""
    packaged = files("mlship") / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "templates"


def read_template(name: str) -> str:
    """The text of one template, by its path below the template folder."""
    return template_root().joinpath(*name.split("/")).read_text(encoding="utf-8")


def read_package_file(name: str) -> str:
    """The text of one of mlship's own modules, by its path below the package."""
    return files("mlship").joinpath(*name.split("/")).read_text(encoding="utf-8")


def cache_folder() -> Path:
    """Where mlship keeps what it can make again: $XDG_CACHE_HOME/mlship, or ~/.cache/mlship."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlship"
