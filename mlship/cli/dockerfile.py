"""`mlship dockerfile`."""

from mlship.cli.options import HERE, Directory, Platform


def dockerfile(directory: Directory = HERE, platform: Platform = None) -> None:
    """Print the Dockerfile that `mlship build` builds."""
    from mlship.console import emit
    from mlship.pipeline import prepare

    emit(prepare(directory, platform).dockerfile)
