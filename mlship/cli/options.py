"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mlship.build.prepare import FindFleet
    from mlship.cuda.hosts.profile import Fleet
    from mlship.project.config import Config

Directory = Annotated[
    Path,
    typer.Option(
        "--directory", "-C", help="The model repository.", show_default="this folder", exists=True, file_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout. The exit code stays the same.")]
Platform = Annotated[
    str | None,
    typer.Option("--platform", help="Instead of mlship.yaml's; the lock must be made for it.", metavar="OS/ARCH"),
]
Driver = Annotated[
    str | None,
    typer.Option("--driver", metavar="VERSION", help="Match CUDA to a host with this NVIDIA driver, not to hosts/."),
]
Capabilities = Annotated[
    list[str] | None,
    typer.Option("--compute-capability", metavar="X.Y", help="A GPU of that host, such as 8.0. Repeatable."),
]
HERE = Path()


class On(StrEnum):
    """What to test on."""

    CPU = "cpu"
    GPU = "gpu"


Tag = Annotated[str | None, typer.Option("--tag", "-t", help="Name of the image, instead of name:version.")]
ImageName = Annotated[
    str | None, typer.Option("--tag", "-t", help="Name of the image, instead of name:rebuild-commit.")
]
Smoke = Annotated[
    On | None, typer.Option("--smoke", help="Test on the CPU or the GPU. Default: what the image is made for.")
]
NoSmoke = Annotated[bool, typer.Option("--no-smoke", help="Test nothing; then nothing is proven.")]
Builder = Annotated[str | None, typer.Option("--builder", help="A buildx builder other than the default.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what each build step prints.")]


def check_smoke(smoke: On | None, *, no_smoke: bool) -> None:
    """Refuse --smoke together with --no-smoke.

    Raises:
        UsageError: both are given.
    """
    from mlship.errors import UsageError

    if smoke and no_smoke:
        raise UsageError(f"--smoke {smoke.value} and --no-smoke exclude each other", hint="drop one of the two")


def fleet_finder(directory: Path, driver: str | None, capabilities: list[str] | None) -> "FindFleet":
    """The hosts that CUDA is matched to: the command line's, else the repository's, else this machine.

    What is returned gives None for a project on the CPU, and raises UsageError for a host file that is none, MatchError
    where no host is named anywhere and this machine is no GPU host.

    Raises:
        UsageError: options that do not fit together.
    """
    from mlship.errors import UsageError

    if (driver is None) != (not capabilities):
        raise UsageError(
            "--driver and --compute-capability describe one host together",
            hint="give both: `nvidia-smi --query-gpu=driver_version,compute_cap --format=csv` prints them",
        )

    def find(config: "Config") -> "Fleet | None":
        if config.gpu is None and driver is not None:
            raise UsageError("this project asks for no GPU", hint="add `gpu:` to mlship.yaml, or leave --driver out")
        if config.gpu is None:
            return None
        from mlship.cuda.hosts.nvml import fleet_of
        from mlship.cuda.hosts.profile import named_fleet

        if driver is not None:
            return named_fleet(driver, tuple(capabilities or ()), config.platform)
        return fleet_of(directory, config.gpu.hosts)

    return find
