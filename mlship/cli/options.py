"""Options that several commands share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

import typer

from mlship.console import emit, say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.build.prepare import FindFleet
    from mlship.cuda.hosts.profile import Fleet
    from mlship.project.config import Config

Directory = Annotated[
    Path,
    typer.Option(
        "--directory", "-C", help="Model repository.", show_default="current directory", exists=True, file_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Platform = Annotated[str | None, typer.Option(help="Target platform. [default: from mlship.yaml]", metavar="OS/ARCH")]
Platforms = Annotated[
    str | None,
    typer.Option(help="Target platforms, separated by commas. [default: from mlship.yaml]", metavar="OS/ARCH,..."),
]
Driver = Annotated[str | None, typer.Option(metavar="VERSION", help="Match this NVIDIA driver instead of hosts/.")]
Capabilities = Annotated[
    list[str] | None, typer.Option(metavar="X.Y", help="GPU of that host, such as 8.0; repeatable.")
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML page; never overwrites FILE.")]
HERE = Path()
T = TypeVar("T")


On: TypeAlias = Literal["cpu", "gpu"]
Shown: TypeAlias = Literal["auto", "tty", "plain", "quiet"]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", "-t", metavar="NAME", help="Image name; repeatable. [default: name:version]"),
]
ImageName = Annotated[
    str | None, typer.Option("--tag", "-t", metavar="NAME", help="Image name. [default: name:rebuild-commit]")
]
Smoke = Annotated[On | None, typer.Option(help="Test on the CPU or GPU. [default: the image's]")]
NoSmoke = Annotated[bool, typer.Option("--no-smoke", help="Skip the smoke test; the tag becomes unproven-TAG.")]
Builder = Annotated[str | None, typer.Option(help="buildx builder. [default: the current one]")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the output of each build step.")]
Progress = Annotated[
    Shown, typer.Option(metavar="HOW", help="Build steps: auto, tty, plain (cached ones too) or quiet.")
]


def show_result(value: T, show: Callable[[T], None], *, json: bool) -> None:
    """Print the result of a command: as JSON for machines, or with `show` for people."""
    from mlship.versioned import to_json

    if json:
        emit(to_json(value))
    else:
        show(value)


def save_page(file: Path | None, page: Callable[[], str]) -> None:
    """Write the HTML page of a result, if one is asked for; `check_new` has seen that the file is new."""
    from mlship.files import save_new

    if file is not None:
        save_new(file, page())
        say(f"wrote {file}")


def platforms_of(text: str | None) -> tuple[str | None, ...]:
    """The platforms that an option names, each once; None is the one of mlship.yaml."""
    return tuple(dict.fromkeys(text.split(","))) if text is not None else (None,)


def only_one(given: Mapping[str, object]) -> None:
    """Refuse options that exclude each other, by their names and values.

    Raises:
        UsageError: two are given.
    """
    flags = [flag for flag, value in given.items() if value]
    if len(flags) > 1:
        raise UsageError(f"`{flags[0]}` cannot be used with `{flags[1]}`", hint="remove one of them")


def check_host(driver: str | None, capabilities: list[str] | None) -> None:
    """Refuse one of --driver and --compute-capability without the other.

    Raises:
        UsageError: only one of them is given.
    """
    if (driver is None) != (not capabilities):
        raise UsageError(
            "`--driver` and `--compute-capability` must be used together",
            hint="add the other one; `nvidia-smi --query-gpu=driver_version,compute_cap --format=csv` prints both",
        )


def fleet_finder(directory: Path, driver: str | None, capabilities: list[str] | None) -> "FindFleet":
    """A function that finds the hosts to match CUDA to: the command line's, the repository's, or this machine.

    The function returns None for a CPU project. It raises UsageError for an invalid host file, and MatchError if no
    host is given and this machine has no GPU.

    Raises:
        UsageError: only one of the two options is given.
    """
    check_host(driver, capabilities)

    def find(config: "Config") -> "Fleet | None":
        if config.gpu is None and driver is not None:
            raise UsageError(
                "`--driver` needs a project that uses GPUs", hint="add `gpu:` to mlship.yaml, or remove `--driver`"
            )
        from mlship.build.prepare import find_hosts

        return find_hosts(directory, config, driver, capabilities)

    return find
