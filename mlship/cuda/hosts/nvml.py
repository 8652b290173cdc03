"""Looks at this host: NVML in a process of its own, the NVIDIA Container Toolkit, the engine. An edge."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from mlship import process
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile, read_fleet
from mlship.cuda.hosts.refusal import refuse
from mlship.cuda.tables.load import cuda_of
from mlship.cuda.versions import Cuda, Driver, driver_in
from mlship.driver.answer import CUDA, NvmlAnswer, NvmlGpu, read_answer
from mlship.errors import MatchError
from mlship.project.base import this_platform

SECONDS = 10.0
FOLDER = "hosts"
_ASIDE_SECONDS = 5.0
_PROGRAM = Path(__file__).with_name("nvml.py")


def probe_nvml(seconds: float = SECONDS) -> NvmlAnswer:
    """Ask NVML; never raises, and never waits much longer than `seconds`, whatever the driver does."""
    lines: list[str] = []
    # By its path, and without the current folder on sys.path: no json.py that lies there may stand in for Python's.
    argv = [sys.executable, "-P", str(_PROGRAM)]
    try:
        done = process.run(argv, process.Options(timeout=seconds, on_stdout=lines.append))
    except process.ProcessError as error:
        if error.reason == "timeout":
            return read_answer(lines, timed_out=True)
        return read_answer(lines, code=1, stderr=str(error))
    return read_answer(lines, signal=_signal_name(done.code), code=done.code, stderr=done.stderr)


def this_host(name: str, seconds: float = SECONDS) -> HostProfile:
    """What this machine offers.

    Args:
        name: what the profile will be called.

    Raises:
        MatchError: there is no GPU that an image could be matched to, or the driver does not answer.
    """
    answer = probe_nvml(seconds)
    refuse(answer, seconds)
    platform = this_platform()
    if platform is None:
        raise MatchError("no image is built for this machine's processor", hint="use a host with amd64 or arm64")
    return describe(answer, name, platform, toolkit_version(), engine_version())


def fleet_of(directory: Path, name: str = FOLDER) -> Fleet:
    """The hosts of a repository: those in its folder of that name, or this machine where it has none.

    Raises:
        UsageError: the folder holds no host files, or a bad one.
        MatchError: no folder, and nothing to match to here.
    """
    folder = directory / name
    if folder.exists():
        return read_fleet(folder, f"{name}/")
    try:
        return Fleet((this_host("this-machine"),), "this machine", committed=False)
    except MatchError as error:
        raise MatchError(
            f"CUDA is matched to hosts, and none is named: there is no folder {name}/, and here {error.message}",
            hint=f"on each kind of GPU host run `mlship hosts record {name}/NAME.json` and commit the files (for a "
            f"cluster: `kubectl get nodes -o json | mlship hosts import -`), or name one by --driver and "
            f"--compute-capability; to use this machine: {error.hint}",
        ) from error


def describe(answer: NvmlAnswer, name: str, platform: str, toolkit: str | None, engine: str | None) -> HostProfile:
    """The profile of a host whose NVML gave a whole answer. Pure.

    Raises:
        MatchError: the driver's version is none.
    """
    driver, suffix = driver_in(answer.driver or "")
    if driver is None:
        raise MatchError(
            f"NVML says {answer.driver!r}, which is not a driver version such as 550.54.15",
            hint="`mlship doctor` looks for the cause",
        )
    return HostProfile(
        name=name,
        driver=str(driver),
        gpus=gather(answer.devices),
        platform=platform,
        cuda=None if answer.cuda is None else str(_cuda(answer.cuda)),
        toolkit=toolkit,
        engine=engine,
        source="nvml",
        simulated=answer.simulated,
        notes=tuple(_notes(answer, driver, suffix)),
    )


def gather(devices: tuple[NvmlGpu, ...]) -> tuple[HostGpu, ...]:
    """GPUs of one kind together, in NVML's order."""
    kinds: dict[tuple[str, str | None, int | None, bool | None], int] = {}
    for device in devices:
        kind = (device.name or "", device.capability, device.memory, device.mig)
        kinds[kind] = kinds.get(kind, 0) + 1
    return tuple(
        HostGpu(name, capability, count, memory, mig) for (name, capability, memory, mig), count in kinds.items()
    )


def _cuda(number: int) -> Cuda:
    """CUDA's number as a version: 12.4 of 12040."""
    return Cuda(number // 1000, number % 1000 // 10)


def _notes(answer: NvmlAnswer, driver: Driver, suffix: str) -> Iterator[str]:
    if suffix:
        yield f"NVML calls the driver {answer.driver}; matched as {driver}"
    failed = answer.call(CUDA)
    if failed is not None and failed.code == 12:
        yield "NVML finds no libcuda.so.1 (code 12): programs that compute on the GPU will not find it either"
    elif failed is not None and failed.code:
        yield f"NVML does not say which CUDA it can: {failed.error} ({failed.code})"
    offered = cuda_of(driver)
    if offered.cuda is None or answer.cuda is None:
        return
    said = _cuda(answer.cuda)
    if said < offered.cuda or (said > offered.cuda and not offered.at_least):
        yield (
            f"NVML says CUDA {said}, but driver {driver} offers {offered.cuda}: NVML asks the first libcuda.so.1 that "
            f"the loader finds ({answer.libcuda or 'not found again'}), and that one is not the driver's, but of a "
            "cuda-compat or stubs folder, or left over from another driver"
        )


def toolkit_version() -> str | None:
    """Version of the NVIDIA Container Toolkit here."""
    found = re.search(r"version\s+v?(\d+\.\d+\.\d+\S*)", _said(["nvidia-ctk", "--version"]))
    return found[1] if found else None


def engine_version() -> str | None:
    """The engine that the docker client talks to, such as "Docker Engine 26.1.5"; None where none answers."""
    try:
        server = json.loads(_said(["docker", "version", "--format", "{{json .Server}}"]) or "null")
        version = server["Version"]
        podman = any("Podman" in part["Name"] for part in server.get("Components") or ())
    except (ValueError, TypeError, KeyError):
        return None
    return f"{'Podman' if podman else 'Docker Engine'} {version}"


def _said(argv: list[str]) -> str:
    """A program's stdout; nothing where it is not there, fails or takes too long."""
    try:
        done = process.run(argv, process.Options(timeout=_ASIDE_SECONDS))
    except (process.ProcessError, OSError):
        return ""
    return done.stdout if done.ok else ""


def _signal_name(code: int) -> str | None:
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
