"""`mlship register` and `mlship models`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import HERE, Directory, Json, show_result
from mlship.console import out, warn
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.models.registered import RegisteredModel

models = typer.Typer(no_args_is_help=True, help="List, show, compare and fetch registered models.")
Store = Annotated[
    str,
    typer.Option(metavar="ADDRESS", envvar="MLSHIP_STORE", help="s3://BUCKET/PREFIX, oci://REGISTRY/PATH or a folder."),
]
_VERSION = "NAME[/COMMIT[/TIME]]; the newest if several match."
Version = Annotated[str, typer.Argument(metavar="MODEL", help=_VERSION)]


def register_command(
    store: Store,
    record: Annotated[
        Path | None,
        typer.Argument(metavar="RECORD", help="Record of the training. [default: model.metadata of mlship.yaml]"),
    ] = None,
    directory: Directory = HERE,
    name: Annotated[str | None, typer.Option(help="Name of the model. [default: from mlship.yaml]")] = None,
    parents: Annotated[
        list[str] | None,
        typer.Option("--parent", metavar="MODEL", help="Registered model that this one is made from; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Register the model and the record of its training.

    Stores models/NAME/COMMIT/TIME/ with the files that the record describes and metadata.json; from mlship.yaml, also
    with the sample and the golden output. RECORD needs no mlship.yaml, only `--name`. What is registered never changes:
    the same model again is no error, another one is.
    """
    from mlship.cli.fetch import uploading
    from mlship.models.register import TrainedModel, model_of, register
    from mlship.models.stores import open_store
    from mlship.project.load import load_config

    if record is not None and name is None:
        raise UsageError("RECORD needs a name for the model", hint="add `--name NAME`")
    if record is not None and name is not None:
        model = TrainedModel(name, record, str(record))
    else:
        model = model_of(directory, load_config(directory), name)
    found = register(model, open_store(store, uploading), store, parents or [])
    if found.dirty is not False:
        state = "unknown" if found.dirty is None else "not committed"
        warn(f"the training code had changes that are {state}: its commit alone does not reproduce the model")
    title = f"{'registered' if found.new else 'already registered:'} {found.version}"
    lines = [title, *(f"  {path}: {source}" for path, source in found.sources.items())]
    show_result(found, lambda _: out("\n".join(lines)), json=json)


@models.command("ls")
def list_models(
    store: Store,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this model. [default: all]")] = None,
    json: Json = False,
) -> None:
    """List registered models, oldest first."""
    from mlship.models.stores import open_store

    found = [str(version) for version in sorted(open_store(store).versions(name))]
    show_result(found, lambda versions: out("\n".join(versions)) if versions else None, json=json)


@models.command("show")
def show_model(model: Version, store: Store, json: Json = False) -> None:
    """Show what a registered model was made with."""
    from mlship.report.models import model_text

    found = _found(store, model)
    show_result(found.model_dump(mode="json", by_alias=True), lambda _: out(model_text(found)), json=json)


@models.command("diff")
def diff_models(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=_VERSION)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help=_VERSION)],
    store: Store,
    json: Json = False,
) -> None:
    """Compare all that is recorded of two models."""
    from mlship.models.registered import model_changes
    from mlship.report.models import show_changes

    show_result(model_changes(_found(store, before), _found(store, after)), show_changes, json=json)


@models.command("pull")
def pull_model_command(
    model: Version,
    store: Store,
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write.")] = Path("model"),
) -> None:
    """Fetch a registered model and check every byte.

    Downloads continue where they stopped. Files that exist are never replaced.
    """
    from mlship.cli.fetch import downloading, weight_cache
    from mlship.models.register import pull_model
    from mlship.models.stores import open_store

    found = pull_model(open_store(store), store, model, into, weight_cache(), downloading)
    out(f"pulled {found.version} into {into}")


def _found(store: str, model: str) -> "RegisteredModel":
    from mlship.models.register import find_model
    from mlship.models.stores import open_store

    return find_model(open_store(store), store, model)
