"""What hosts offer: one profile a kind of GPU host, as files that a fleet commits. Values only; JSON both ways."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from mlship.cuda.versions import Capability, Driver, driver_in
from mlship.errors import UsageError
from mlship.project.base import PLATFORMS

SCHEMA = 1
COMMAND_LINE = "the command line"
_SIZE_LIMIT = 1_000_000

HostSource: TypeAlias = Literal["nvml", "labels", "command line", "hand"]


@dataclass(frozen=True)
class HostGpu:
    """One GPU, or several of one kind.

    Attributes:
        capability: compute capability, such as "8.0"; None where nobody could tell.
        memory: bytes of one.
        mig: Multi-Instance GPU is on; None where the GPU has none or nobody could tell.
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
        name: what people call it: the file's name, or the node pool.
        driver: as NVML and nvidia-smi print it, such as "550.54.15".
        platform: such as linux/amd64.
        cuda: what NVML said of CUDA, such as "12.4"; a cross-check only, since it follows whatever libcuda is found.
        toolkit: version of the NVIDIA Container Toolkit; None where it was not found.
        engine: such as "Docker Engine 26.1.5"; None where none was found.
        simulated: the libraries that answered say that they are a simulation.
        notes: what was seen and is worth knowing, such as a disagreement between sources.
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
        """The text of a host file; the same profile gives the same bytes."""
        return _adapter().dump_json(self, indent=2).decode() + "\n"


@dataclass(frozen=True)
class Fleet:
    """The hosts that an image is matched to.

    Attributes:
        origin: where they come from, for people: "hosts/", "the command line", "this machine".
        committed: they stand in the repository, so the lock is made for them and for no others.
    """

    hosts: tuple[HostProfile, ...]
    origin: str
    committed: bool

    @property
    def options(self) -> str:
        """What names the same host to another command, with a space before it; empty where files or this machine do."""
        if self.origin != COMMAND_LINE:
            return ""
        capabilities = (f" --compute-capability {gpu.capability}" for host in self.hosts for gpu in host.gpus)
        return f" --driver {self.hosts[0].driver}{''.join(capabilities)}"


def parse_host(text: str, name: str) -> HostProfile:
    """Read a host file.

    Args:
        name: of the file, for messages.

    Raises:
        UsageError: it is no host file, of a newer mlship, or for a host without GPU.
    """
    try:
        host = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{name} is not a host file: {f'{where}: ' if where else ''}{first['msg']}",
            hint="record it on that host: `mlship hosts record FILE` (docs/reference.md describes the format)",
        ) from error
    if host.schema != SCHEMA:
        raise UsageError(
            f"{name} was written by another mlship (host schema {host.schema}, known: {SCHEMA})",
            hint="update mlship, or record the host again with this one: `mlship hosts record`",
        )
    if Driver.parse(host.driver) is None:
        raise UsageError(
            f"{name}: driver {host.driver!r} is no driver version such as 550.54.15",
            hint="write it as nvidia-smi prints it, without a suffix, or record the host again: `mlship hosts record`",
        )
    for gpu in host.gpus:
        _check_gpu(gpu, name)
    if host.platform not in PLATFORMS:
        raise UsageError(
            f"{name}: no image is built for platform {host.platform!r}", hint=f"write {' or '.join(PLATFORMS)}"
        )
    if not host.gpus:
        raise UsageError(
            f"{name} describes a host without a GPU, and nothing can be matched to it",
            hint="remove the file, or record it again on a host with a GPU",
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
            hint="`nvidia-smi --query-gpu=compute_cap --format=csv` on that host prints it; null where it is not known",
        ) from error


def read_fleet(folder: Path, shown: str) -> Fleet:
    """Every host file of a folder, sorted by file name.

    Args:
        shown: what the folder is called in messages.

    Raises:
        UsageError: there is no such folder, nothing in it, or a file that is no host file.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except NotADirectoryError as error:
        raise _empty(f"{folder.name} is a file, and host files lie in a folder of that name", shown) from error
    except OSError as error:
        raise _empty(f"{shown} cannot be read: {error.strerror}", shown) from error
    if not paths:
        raise _empty(f"{shown} holds no host files", shown)
    return Fleet(tuple(_read(path, f"{shown}{path.name}") for path in paths), shown, committed=True)


def named_fleet(driver: str, capabilities: tuple[str, ...], platform: str) -> Fleet:
    """The one host that the command line describes.

    Raises:
        UsageError: no driver version, or no compute capability.
    """
    if Driver.parse(driver) is None:
        plain, _ = driver_in(driver)
        raise UsageError(
            f"--driver {driver!r} is no driver version such as 550.54.15",
            hint=f"leave the suffix out: `--driver {plain}`"
            if plain
            else "`nvidia-smi --query-gpu=driver_version --format=csv` prints it",
        )
    try:
        gpus = tuple(HostGpu("a GPU", str(Capability.parse(text))) for text in capabilities)
    except ValueError as error:
        raise UsageError(f"--compute-capability: {error}", hint="write it as 8.0 (an A100), 8.9, 9.0, ...") from error
    host = HostProfile("the named host", driver, gpus, platform, source="command line")
    return Fleet((host,), COMMAND_LINE, committed=False)


def _empty(what: str, shown: str) -> UsageError:
    return UsageError(
        what,
        hint=f"on each kind of GPU host run `mlship hosts record {shown}NAME.json` and commit the files; "
        "for a cluster: `kubectl get nodes -o json | mlship hosts import -`",
    )


def _read(path: Path, shown: str) -> HostProfile:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise UsageError(f"{shown} is larger than 1 MB, so it is no host file", hint="remove it from that folder")
        return parse_host(path.read_text(encoding="utf-8"), shown)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown} cannot be read as UTF-8 text", hint="record the host again") from error


@cache
def _adapter() -> TypeAdapter[HostProfile]:
    return TypeAdapter(HostProfile)
