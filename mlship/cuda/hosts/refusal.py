"""Why a host cannot be recorded, and what to do about it. Pure."""

from mlship.driver.answer import DEVICE_COUNT, DEVICE_HANDLE, NVML, NVML_INIT, DriverAnswer, DriverCall
from mlship.driver.codes import code_table
from mlship.errors import MatchError

_DOCTOR = "run `mlship doctor` to find the cause"
_NEEDED = {NVML_INIT, "nvmlSystemGetDriverVersion", DEVICE_COUNT, DEVICE_HANDLE, "nvmlDeviceGetName"}


def check_answer(answer: DriverAnswer, seconds: float) -> None:
    """Accept only an answer that describes a whole host.

    Args:
        seconds: how long NVML was given.

    Raises:
        MatchError: the reason and the remedy.
    """
    library = answer.libraries.get(NVML)
    if answer.timed_out or answer.crashed:
        raise _broken(answer, seconds)
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


def _broken(answer: DriverAnswer, seconds: float) -> MatchError:
    call = answer.pending_call
    if answer.timed_out:
        return MatchError(
            f"NVML did not answer within {seconds:g} s{f'; it hangs in {call}' if call else ''}",
            hint=f"`sudo dmesg | grep -iE 'xid|nvrm'` shows what the driver waits for; {_DOCTOR}",
        )
    return MatchError(
        f"NVML crashed{f' in {call}' if call else ''} ({answer.crashed})"
        f"{f': {answer.stderr}' if answer.stderr else ''}",
        hint=f"the driver's libraries are broken or inconsistent: reinstall the driver; {_DOCTOR}",
    )


def _missing(error: str) -> MatchError:
    if "No such file" not in error:  # such as "file too short", which containers leave behind
        return MatchError(
            f"libnvidia-ml.so.1 cannot be loaded ({error})",
            hint=f"reinstall the driver, or start the container again; {_DOCTOR}",
        )
    return MatchError(
        "this machine has no user-space library of the NVIDIA driver "
        "(libnvidia-ml.so.1 is not found: NVML_ERROR_LIBRARY_NOT_FOUND, 12)",
        hint="run this on a GPU host with the driver installed, or in a container started with `--gpus all`: "
        "`mlship hosts record hosts/NAME.json`",
    )


def _failed(call: DriverCall) -> MatchError:
    code = code_table("nvml").get(call.code)
    gpu = "" if call.device is None else f" of GPU {call.device}"
    return MatchError(
        f"{(code and code.why) or 'NVML failed'} ({call.name}{gpu}: {code.name if code else 'code'} {call.code})",
        hint=(code and code.hint) or _DOCTOR,
    )
