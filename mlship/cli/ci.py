"""`mlship ci`."""

from enum import StrEnum
from typing import Annotated

import typer

from mlship.cli.options import HERE, Directory


class OnService(StrEnum):
    GITHUB = "github"
    GITLAB = "gitlab"


def ci_command(
    service: Annotated[OnService, typer.Argument(metavar="SERVICE", help="github or gitlab.", show_default=False)],
    directory: Directory = HERE,
) -> None:
    """Print a pipeline that builds, proves and pushes.

    Save it as .github/workflows/image.yml or .gitlab-ci.yml. Set where it finds mlship: it is not on PyPI.
    """
    from mlship.build.ci import pipeline
    from mlship.console import emit
    from mlship.project.load import load_unfinished

    config, _ = load_unfinished(directory)
    emit(pipeline(service.value, config))
