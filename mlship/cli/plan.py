"""`mlship plan`."""

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Json, Platform


def plan_command(
    directory: Directory = HERE,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    json: Json = False,
) -> None:
    """Show what will be built, and why. Needs no container engine and no network."""
    from mlship.build.prepare import prepare
    from mlship.cli.options import fleet_finder
    from mlship.console import emit, warn
    from mlship.report.plan import show_plan

    prepared = prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    for warning in prepared.warnings:
        warn(warning)
    if json:
        emit(prepared.plan.to_json())
    else:
        show_plan(prepared.plan)
