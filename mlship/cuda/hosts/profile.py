"""GPU hosts as values: one profile for each kind of host, read from and written to JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from mlship.cuda.versions import Capability, Driver, driver_in
from mlship.errors import UsageError
from mlship.files import read_regular
from mlship.project.base import PLATFORMS
from mlship.versioned import dump, parse_versioned

SCHEMA = 1
COMMAND_LINE = "the command line"
_SIZE_LIMIT = 1_000_000

HostSource: TypeAlias = Literal["nvml", "labels", "command line", "hand"]


@dataclass(frozen=True)
class HostGpu:
    """One GPU, or several identical ones.

    Attributes:
        capability: compute capability, such as "8.0"; None where unknown.
        memory: bytes of one GPU.
        mig: Multi-Instance GPU is on; None where the GPU does not support it, or unknown.
    """

    name: str
    capability: str | None
    count: int = 1
    memory: int | None = None
    mig: bool | None = None


@dataclass(frozen=True)
class HostProfile:
    """One kind of GPU host.

    Attributes:
        name: the name of the file, or of the node pool.
        driver: as NVML and nvidia-smi print it, such as "550.54.15".
        platform: such as linux/amd64.
        cuda: the CUDA that NVML reports, such as "12.4"; a cross-check only, because it depends on the libcuda found.
        toolkit: version of the NVIDIA Container Toolkit; None where it was not found.
        engine: such as "Docker Engine 26.1.5"; None where none was found.
        simulated: the libraries that answered are a simulation.
        notes: findings worth knowing, such as a disagreement between sources.
    """

    name: str
    driver: str
    gpus: tuple[HostGpu, ...]
    platform: str = "linux/amd64"
    cuda: str | None = None
    toolkit: str | None = None
    engine: str | None = None
    source: HostSource = "hand"
    simulated: bool = False
    notes: tuple[str, ...] = field(default=())
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The text of a host file; equal profiles give equal bytes."""
        return dump(self) + "\n"


@dataclass(frozen=True)
class Fleet:
    """The hosts that an image is matched to.

    Attributes:
        origin: where they come from, for messages: "hosts/", "the command line", "this machine".
        committed: they are files of the repository, so the lock is for exactly these hosts.
    """

    hosts: tuple[HostProfile, ...]
    origin: str
    committed: bool

    @property
    def options(self) -> str:
        """The options that describe the same host to another command, after a space; empty without such options."""
        if self.origin != COMMAND_LINE:
            return ""
        capabilities = (f" --compute-capability {gpu.capability}" for host in self.hosts for gpu in host.gpus)
        return f" --driver {self.hosts[0].driver}{''.join(capabilities)}"


def parse_host(text: str, name: str) -> HostProfile:
    """Read a host file; `name` is the file's name in messages.

    Raises:
        UsageError: it is not a host file, is from another mlship, or describes a host without a GPU.
    """
    hint = "run `mlship hosts record FILE` on that host (docs/reference.md describes the format)"
    host = parse_versioned(text, HostProfile, SCHEMA, f"`{name}` is not a host file", hint)
    if Driver.parse(host.driver) is None:
        raise UsageError(
            f"{name}: {host.driver!r} is not a driver version such as 550.54.15",
            hint="use the version that `nvidia-smi` prints, without a suffix, or run `mlship hosts record` again",
        )
    for gpu in host.gpus:
        _check_gpu(gpu, name)
    if host.platform not in PLATFORMS:
        raise UsageError(f"{name}: unsupported platform {host.platform!r}", hint=f"use {' or '.join(PLATFORMS)}")
    if not host.gpus:
        raise UsageError(
            f"`{name}` describes a host without a GPU", hint="remove the file, or record it again on a GPU host"
        )
    return host


def _check_gpu(gpu: HostGpu, name: str) -> None:
    if gpu.capability is None:
        return
    try:
        Capability.parse(gpu.capability)
    except ValueError as error:
        raise UsageError(
            f"{name}: {error}",
            hint="use what `nvidia-smi --query-gpu=compute_cap --format=csv` prints on that host, or null if unknown",
        ) from error


def read_fleet(folder: Path, shown: str) -> Fleet:
    """Every host file of a folder, sorted by file name.

    Args:
        shown: the folder's name in messages.

    Raises:
        UsageError: the folder is missing or empty, or contains a JSON file that is not a host file.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except NotADirectoryError as error:
        raise _empty(f"`{folder.name}` is a file, not a folder of host files", shown) from error
    except OSError as error:
        raise _empty(f"cannot read `{shown}`: {error.strerror}", shown) from error
    if not paths:
        raise _empty(f"no host files in `{shown}`", shown)
    return Fleet(tuple(_read(path, f"{shown}{path.name}") for path in paths), shown, committed=True)


def named_fleet(driver: str, capabilities: tuple[str, ...], platform: str) -> Fleet:
    """The host that `--driver` and `--compute-capability` describe.

    Raises:
        UsageError: one of them is not a version.
    """
    if Driver.parse(driver) is None:
        version, _ = driver_in(driver)
        raise UsageError(
            f"`--driver {driver}` is not a driver version such as 550.54.15",
            hint=f"leave out the suffix: `--driver {version}`"
            if version
            else "use what `nvidia-smi --query-gpu=driver_version --format=csv` prints",
        )
    try:
        gpus = tuple(HostGpu("a GPU", str(Capability.parse(text))) for text in capabilities)
    except ValueError as error:
        raise UsageError(f"--compute-capability: {error}", hint="use two numbers, such as 8.0 for an A100") from error
    host = HostProfile("the named host", driver, gpus, platform, source="command line")
    return Fleet((host,), COMMAND_LINE, committed=False)


def _empty(what: str, shown: str) -> UsageError:
    return UsageError(
        what,
        hint=f"run `mlship hosts record {shown}NAME.json` on each kind of GPU host and commit the files; "
        "for a cluster, run `kubectl get nodes -o json | mlship hosts import -`",
    )


def _read(path: Path, shown: str) -> HostProfile:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise UsageError(f"`{shown}` is not a host file: it is larger than 1 MB", hint="remove it from that folder")
        return parse_host(read_regular(path), shown)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read `{shown}` as UTF-8 text", hint="record the host again with `mlship hosts record`"
        ) from error
