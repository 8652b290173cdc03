"""Locations of mlship's own files: in a wheel, an editable install, a checkout or the cache."""

import os
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def template_root() -> Traversable:
    """The template folder: inside the package in a wheel, beside it in a checkout."""
    packaged = files("mlship") / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "templates"


def read_template(name: str) -> str:
    """Read a template by its path in the template folder."""
    return template_root().joinpath(*name.split("/")).read_text(encoding="utf-8")


def read_package_file(name: str) -> str:
    """Read a file of the package by its path in the package."""
    return files("mlship").joinpath(*name.split("/")).read_text(encoding="utf-8")


def cache_folder() -> Path:
    """The cache folder: $XDG_CACHE_HOME/mlship or ~/.cache/mlship."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlship"
