"""`mlship hosts`, `mlship hosts record` and `mlship hosts import`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import HERE, Directory, Json

_MOST = 50_000_000  # bytes; a node is some 10 to 20 kB of JSON

hosts = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@hosts.callback(invoke_without_command=True)
def show(context: typer.Context, directory: Directory = HERE, json: Json = False) -> None:
    """Show the GPU hosts that images are matched to.

    Each with the CUDA that it offers, and then the CUDA that all of them can run. They are the files in hosts/, or in
    the folder that mlship.yaml names; without such a folder, this machine.
    """
    from mlship.console import emit
    from mlship.cuda.hosts.fleet import fleet_cuda
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.errors import UsageError
    from mlship.report.hosts import fleet_json, show_fleet

    if context.invoked_subcommand is not None:
        if json or directory != HERE:
            raise UsageError(
                "-C and --json belong to `mlship hosts` alone, not to what comes after it",
                hint=f"`mlship hosts {context.invoked_subcommand} --help`",
            )
        return
    fleet = fleet_of(directory, *_named(directory))
    found = fleet_cuda(fleet)
    if json:
        emit(fleet_json(fleet, found))
    else:
        show_fleet(fleet, found)


def _named(directory: Path) -> tuple[str, ...]:
    """The folder that mlship.yaml names; none where there is no such file, or it asks for no GPU."""
    from mlship.project.load import FILE_NAME, load_config

    gpu = load_config(directory).gpu if (directory / FILE_NAME).exists() else None
    return (gpu.hosts,) if gpu else ()


@hosts.command()
def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Such as hosts/a100.json; - prints it instead.")],
) -> None:
    """Write what this GPU host offers into a file.

    Commit the file: images are matched to all hosts in hosts/. A file that is there is never overwritten.
    """
    from mlship.console import emit, say, warn
    from mlship.cuda.hosts.files import check_name, save_host
    from mlship.cuda.hosts.nvml import this_host
    from mlship.report.hosts import host_line

    printed = str(file) == "-"
    if not printed:
        check_name(file)
    host = this_host("this-machine" if printed else file.stem)
    if host.simulated:
        warn("the GPU is simulated, and the file says so")
    for note in host.notes:
        say(f"note: {note}", style="yellow")
    if printed:
        emit(host.to_json())
        return
    state = save_host(file, host.to_json())
    say(f"{'wrote' if state == 'new' else 'unchanged:'} {file}: {host_line(host)}")


@hosts.command("import")
def import_nodes(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `kubectl get nodes -o json` printed; - is stdin.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Where the host files go.", file_okay=False)] = (
        Path("hosts")
    ),
) -> None:
    """Write files for a cluster's kinds of GPU nodes.

    They are told apart by the labels of GPU Feature Discovery: nodes with the same driver, GPU and processor
    are one kind. A file that an earlier import wrote is brought up to date; one that was recorded or written by hand
    is never overwritten.
    """
    from mlship.cuda.hosts.files import outdated, plan_import
    from mlship.cuda.hosts.kubernetes import read_nodes
    from mlship.errors import UsageError
    from mlship.files import write_atomic
    from mlship.report.hosts import show_import, warn_of_nodes

    nodes = read_nodes(_read(file))
    warn_of_nodes(nodes)
    if not nodes.pools:
        raise UsageError(
            f"none of {len(nodes.unlabelled) + nodes.without_gpu} nodes tells which GPU and driver it has",
            hint="install GPU Feature Discovery, or on each kind of GPU host `mlship hosts record hosts/NAME.json`",
        )
    planned = plan_import((pool.host for pool in nodes.pools), into)
    for each in planned:
        if each.state != "same":
            write_atomic(each.path, each.text)
    show_import(nodes, planned, outdated(into, planned))


def _read(file: Path) -> str:
    from mlship.errors import UsageError

    shown = "stdin" if str(file) == "-" else str(file)
    if shown == "stdin":
        data = sys.stdin.buffer.read(_MOST + 1)
    else:
        with file.open("rb") as stream:
            data = stream.read(_MOST + 1)
    if len(data) > _MOST:
        raise UsageError(
            f"{shown} is larger than {_MOST // 1_000_000} MB",
            hint="take the GPU nodes alone: "
            "`kubectl get nodes -l nvidia.com/gpu.present=true -o json | mlship hosts import -`",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown} is not UTF-8 text", hint="`kubectl get nodes -o json | mlship hosts import -`"
        ) from error
