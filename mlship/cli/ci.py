"""`mlship ci`, `mlship schema` and `mlship training-record`: files to save."""

from typing import Annotated, Literal

import typer

from mlship.cli.options import HERE, Directory
from mlship.console import emit


def ci_command(
    service: Annotated[
        Literal["github", "gitlab"], typer.Argument(metavar="SERVICE", help="github or gitlab.", show_default=False)
    ],
    directory: Directory = HERE,
) -> None:
    """Print a pipeline that builds, proves and pushes.

    Save it as .github/workflows/image.yml or .gitlab-ci.yml. Set where it finds mlship: it is not on PyPI.
    """
    from mlship.build.ci import pipeline
    from mlship.project.load import load_unfinished

    config, _ = load_unfinished(directory)
    emit(pipeline(service, config))


def schema_command() -> None:
    """Print the JSON schema of mlship.yaml, for editors."""
    import json

    from mlship.project.config import config_schema

    emit(json.dumps(config_schema(), indent=2))


def training_record_command() -> None:
    """Print a script that records the libraries of a training.

    Copy it beside the training script; it needs no mlship. `model.metadata` in mlship.yaml names what it writes.
    """
    from mlship.resources import read_template

    emit(read_template("training_record.py").rstrip("\n"))
