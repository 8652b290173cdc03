"""The only module that knows where mlship's own files lie: in a wheel, an editable install or a plain checkout."""

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
