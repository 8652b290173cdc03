"""`mlship dockerfile`."""

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Platform


def dockerfile_command(
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
) -> None:
    """Print the Dockerfile that `mlship build` builds."""
    from mlship.build.prepare import prepare
    from mlship.cli.options import fleet_finder
    from mlship.console import emit

    emit(prepare(directory, platform, fleet_finder(directory, driver, compute_capability)).dockerfile)
