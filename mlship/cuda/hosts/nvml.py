"""Records this host: the driver, called in a process of its own, the NVIDIA Container Toolkit and the engine."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile, read_fleet
from mlship.cuda.tables.lookup import offer_of
from mlship.cuda.versions import Cuda, Driver, driver_in
from mlship.driver import codes
from mlship.driver.answer import (
    DEVICE_COUNT,
    DEVICE_HANDLE,
    LIBCUDA,
    NVML,
    NVML_CUDA_VERSION,
    NVML_INIT,
    DriverAnswer,
    DriverCall,
)
from mlship.driver.child import ask_driver, run_child
from mlship.errors import MatchError
from mlship.known_texts import phrase
from mlship.project.base import this_platform

SECONDS = 10.0
FOLDER = "hosts"
_ASIDE_SECONDS = 5.0
_DOCTOR = "run `mlship doctor` to find the cause"
_NEEDED = {NVML_INIT, "nvmlSystemGetDriverVersion", DEVICE_COUNT, DEVICE_HANDLE, "nvmlDeviceGetName"}


def probe_nvml(seconds: float = SECONDS) -> DriverAnswer:
    """Call NVML; never raises, and never waits much longer than `seconds`, whatever the driver does."""
    return ask_driver(("nvml", "--brief", LIBCUDA), seconds)


def this_host(name: str) -> HostProfile:
    """What this machine offers.

    Args:
        name: of the profile.

    Raises:
        MatchError: there is no GPU to match an image to, or the driver does not answer.
    """
    answer = probe_nvml()
    check_answer(answer)
    platform = this_platform()
    if platform is None:
        raise MatchError("mlship builds no images for this machine's processor", hint="use a host with amd64 or arm64")
    return profile_of(answer, name, platform, toolkit_version(), engine_version())


def fleet_of(directory: Path, name: str = FOLDER) -> Fleet:
    """The hosts of a repository: those in its folder `name`, or this machine if there is no such folder.

    Raises:
        UsageError: the folder holds no host files, or an invalid one.
        MatchError: there is no folder, and no usable GPU on this machine.
    """
    folder = directory / name
    if folder.exists():
        return read_fleet(folder, f"{name}/")
    try:
        return Fleet((this_host("this-machine"),), "this machine", committed=False)
    except MatchError as error:
        raise MatchError(
            f"no hosts to match CUDA to: there is no folder `{name}/`, and {error.message}",
            hint=phrase("record_hosts").format(name=name, here=error.hint),
        ) from error


def check_answer(answer: DriverAnswer) -> None:
    """Accept only an answer that describes a whole host.

    Raises:
        MatchError: the reason and the remedy.
    """
    library = answer.libraries.get(NVML)
    if answer.timed_out or answer.crashed:
        raise _broken(answer)
    if library is not None and library.error:
        raise _missing(library.error)
    for call in answer.calls:
        if call.code and call.name in _NEEDED:
            raise _failed(call)
    driver = answer.text("nvmlSystemGetDriverVersion")
    if driver is None:
        raise MatchError("NVML answers, but does not report the driver's version", hint=_DOCTOR)
    if not answer.number(DEVICE_COUNT):
        raise MatchError(
            f"driver {driver} answers, but has no GPU",
            hint="`lspci -d 10de:` shows whether the machine has one; in a container, start it with `--gpus all`; "
            + _DOCTOR,
        )


def _broken(answer: DriverAnswer) -> MatchError:
    place = answer.pending_call
    if answer.timed_out:
        hint = f"`sudo dmesg | grep -iE 'xid|nvrm'` shows what the driver waits for; {_DOCTOR}"
        return MatchError(
            f"NVML did not answer within {SECONDS:g} s{f'; it hangs in {place}' * bool(place)}", hint=hint
        )
    said = f"{f' in {place}' * bool(place)} ({answer.crashed}){f': {answer.stderr}' * bool(answer.stderr)}"
    hint = f"the driver's libraries are broken or inconsistent: reinstall the driver; {_DOCTOR}"
    return MatchError(f"NVML crashed{said}", hint=hint)


def _missing(error: str) -> MatchError:
    if "No such file" not in error:  # such as "file too short", which containers leave behind
        hint = f"reinstall the driver, or start the container again; {_DOCTOR}"
        return MatchError(f"libnvidia-ml.so.1 cannot be loaded ({error})", hint=hint)
    return MatchError(
        "this machine has no user-space library of the NVIDIA driver "
        "(libnvidia-ml.so.1 is not found: NVML_ERROR_LIBRARY_NOT_FOUND, 12)",
        hint="run this on a GPU host with the driver installed, or in a container started with `--gpus all`: "
        "`mlship hosts record hosts/NAME.json`",
    )


def _failed(call: DriverCall) -> MatchError:
    code = codes.code_tables().nvml.get(call.code)
    gpu = "" if call.device is None else f" of GPU {call.device}"
    return MatchError(
        f"{(code and code.why) or 'NVML failed'} ({call.name}{gpu}: {code.name if code else 'code'} {call.code})",
        hint=(code and code.hint) or _DOCTOR,
    )


def profile_of(answer: DriverAnswer, name: str, platform: str, toolkit: str | None, engine: str | None) -> HostProfile:
    """The profile of a host whose NVML gave a whole answer. Pure.

    Raises:
        MatchError: the driver's version is invalid.
    """
    reported = answer.text("nvmlSystemGetDriverVersion")
    driver, suffix = driver_in(reported or "")
    if driver is None:
        raise MatchError(f"NVML reports {reported!r}, which is not a driver version such as 550.54.15", hint=_DOCTOR)
    cuda = answer.number(NVML_CUDA_VERSION)
    notes = [f"NVML reports driver {reported}; matched as {driver}"] if suffix else []
    return HostProfile(
        name=name,
        driver=str(driver),
        gpus=_gpus(answer),
        platform=platform,
        cuda=None if cuda is None else codes.cuda_version(cuda),
        toolkit=toolkit,
        engine=engine,
        source="nvml",
        simulated=answer.simulated,
        notes=(*notes, *_cuda_notes(answer, driver)),
    )


def _gpus(answer: DriverAnswer) -> tuple[HostGpu, ...]:
    """GPUs of one kind together, in NVML's order."""
    kinds: Counter[HostGpu] = Counter()
    for index in range(answer.number(DEVICE_COUNT) or 0):
        name = answer.text("nvmlDeviceGetName", index) or ""
        capability = ".".join(map(str, answer.numbers("nvmlDeviceGetCudaComputeCapability", index))) or None
        memory, mig = (answer.number(f"nvmlDeviceGet{what}", index) for what in ("MemoryInfo", "MigMode"))
        kinds[HostGpu(name, capability, memory=memory, mig=None if mig is None else bool(mig))] += 1
    return tuple(replace(gpu, count=count) for gpu, count in kinds.items())


def _cuda_notes(answer: DriverAnswer, driver: Driver) -> Iterator[str]:
    code, number = answer.code(NVML_CUDA_VERSION), answer.number(NVML_CUDA_VERSION)
    if code == 12:
        yield "NVML finds no libcuda.so.1 (code 12): programs that compute on the GPU will not find it either"
    elif code:
        yield f"NVML does not report the supported CUDA version: {codes.nvml(code)}"
    offered = offer_of(driver)
    if offered.cuda is None or number is None:
        return
    cuda = Cuda(number // 1000, number % 1000 // 10)
    if cuda < offered.cuda or (cuda > offered.cuda and not offered.at_least):
        libcuda = answer.libraries.get(LIBCUDA)
        path = (libcuda and libcuda.path) or "path unknown"
        yield phrase("other_libcuda").format(cuda=cuda, driver=driver, supported=offered.cuda, path=path)


def toolkit_version() -> str | None:
    """Version of this machine's NVIDIA Container Toolkit."""
    found = re.search(r"version\s+v?(\d+\.\d+\.\d+\S*)", _output_of(["nvidia-ctk", "--version"]))
    return found[1] if found else None


def engine_version() -> str | None:
    """The engine that the docker client talks to, such as "Docker Engine 26.1.5"; None if none answers."""
    try:
        server = json.loads(_output_of(["docker", "version", "--format", "{{json .Server}}"]) or "null")
        version = server["Version"]
        podman = any("Podman" in part["Name"] for part in server.get("Components") or ())
    except (ValueError, TypeError, KeyError):
        return None
    return f"{'Podman' if podman else 'Docker Engine'} {version}"


def _output_of(argv: list[str]) -> str:
    """A program's stdout; empty if it is missing, fails or takes too long."""
    ended = run_child(argv, _ASIDE_SECONDS)
    return ended.stdout if ended.ok else ""
