"""`mlship plan`."""

from mlship.cli.options import HERE, Directory, Json, Platform


def plan(directory: Directory = HERE, platform: Platform = None, json: Json = False) -> None:
    """Show what will be built, and why. Needs no engine and no network."""
    from mlship.console import emit
    from mlship.pipeline import prepare
    from mlship.report.plan import show_plan

    prepared = prepare(directory, platform)
    if json:
        emit(prepared.plan.to_json())
    else:
        show_plan(prepared.plan)
