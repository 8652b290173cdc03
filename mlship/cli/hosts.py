"""`mlship hosts`, `mlship hosts record` and `mlship hosts import`."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from mlship.cli.options import HERE, Directory, Json, show_result
from mlship.console import emit, say, warn
from mlship.errors import UsageError

hosts = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@hosts.callback(invoke_without_command=True)
def show(context: typer.Context, directory: Directory = HERE, json: Json = False) -> None:
    """Show the GPU hosts that images are matched to.

    Prints the CUDA that each host supports, and the versions that run on all of them. Hosts are the files in hosts/, or
    in the folder set by gpu.hosts in mlship.yaml; without that folder, this machine.
    """
    from mlship.cuda.hosts.fleet import fleet_cuda
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.report.hosts import show_fleet

    if context.invoked_subcommand is not None:
        if json or directory != HERE:
            raise UsageError(
                f"`-C` and `--json` cannot be used with `mlship hosts {context.invoked_subcommand}`",
                hint=f"remove them; `mlship hosts {context.invoked_subcommand} --help` lists its options",
            )
        return
    fleet = fleet_of(directory, *_named(directory))
    found = fleet_cuda(fleet)
    document = {"origin": fleet.origin, "committed": fleet.committed, "hosts": fleet.hosts, "cuda": found}
    show_result(document, lambda _: show_fleet(fleet, found), json=json)


def _named(directory: Path) -> tuple[str, ...]:
    """The folder set by `gpu.hosts` in mlship.yaml; none without that file or key."""
    from mlship.project.load import FILE_NAME, load_config

    gpu = load_config(directory).gpu if (directory / FILE_NAME).exists() else None
    return (gpu.hosts,) if gpu else ()


@hosts.command("record")
def record_host(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, such as hosts/a100.json; - is stdout.")],
) -> None:
    """Record this GPU host in a file.

    Commit the file: images are matched to all hosts in hosts/. An existing file is never overwritten.
    """
    from mlship.cuda.hosts.files import check_file_name, save_host
    from mlship.cuda.hosts.nvml import this_host
    from mlship.report.hosts import host_line

    printed = str(file) == "-"
    if not printed:
        check_file_name(file)
    host = this_host("this-machine" if printed else file.stem)
    if host.simulated:
        warn("the GPU is simulated; the file records that")
    for note in host.notes:
        say(f"note: {note}", style="yellow")
    if printed:
        emit(host.to_json())
        return
    state = save_host(file, host.to_json())
    say(f"{'wrote' if state == 'new' else 'unchanged:'} {file}: {host_line(host)}")


@hosts.command("import")
def import_nodes(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output of `kubectl get nodes -o json`; - is stdin.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the host files.", file_okay=False)] = (
        Path("hosts")
    ),
) -> None:
    """Write a host file for each kind of GPU node in a cluster.

    Nodes with the same driver, GPU and processor are one kind, by the labels of GPU Feature Discovery or by the
    ResourceSlices of NVIDIA's DRA driver (`kubectl get nodes,resourceslices -o json`). Files of an earlier import are
    updated; files that were recorded or written by hand are never overwritten.
    """
    from mlship.cuda.hosts.files import outdated, plan_import
    from mlship.cuda.hosts.kubernetes import read_nodes
    from mlship.files import write_atomic
    from mlship.report.hosts import show_import, warn_of_nodes

    with _opened(file) as stream:
        nodes = read_nodes(stream)
    warn_of_nodes(nodes)
    if not nodes.pools:
        raise UsageError(
            f"none of {len(nodes.unlabelled) + nodes.without_gpu} nodes has labels for its GPU and driver",
            hint="install GPU Feature Discovery, or run `mlship hosts record hosts/NAME.json` on each kind of GPU host",
        )
    planned = plan_import((pool.host for pool in nodes.pools), into)
    for each in planned:
        if each.state != "same":
            write_atomic(each.path, each.text)
    show_import(nodes, planned, outdated(into, planned))


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """The text of a file or of stdin, read in parts: a large cluster has hundreds of megabytes."""
    from mlship.cuda.hosts.node_list import HINT

    shown = "stdin" if str(file) == "-" else str(file)
    with sys.stdin.buffer if shown == "stdin" else file.open("rb") as stream:
        try:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"`{shown}` is not UTF-8 text", hint=HINT) from error
