"""Why a host cannot be recorded, and what to do: NVML's answers as errors. Pure."""

from dataclasses import dataclass

from mlship.driver.answer import HANDLE, INIT, Call, NvmlAnswer
from mlship.errors import MatchError

_DOCTOR = "`mlship doctor` looks for the cause"


@dataclass(frozen=True)
class _Why:
    what: str
    hint: str


_BY_CODE = {
    4: _Why(
        "this user may not use the GPU's device files",
        "`ls -l /dev/nvidia*` shows who may; run it as such a user, or as root: `sudo mlship hosts record FILE`",
    ),
    9: _Why(
        "the NVIDIA driver's libraries are here, but its kernel module is not loaded",
        f"load it: `sudo modprobe nvidia`; where that fails, {_DOCTOR}",
    ),
    12: _Why(
        "a library that NVML needs is not here",
        f"install the driver again, whole; {_DOCTOR}",
    ),
    15: _Why(
        "a GPU does not answer the driver any more: it has fallen off the bus",
        "`sudo dmesg | grep -i xid` shows when and why; what often brings it back is `sudo reboot`",
    ),
    16: _Why("a GPU must be reset before it can be used", "`sudo nvidia-smi --gpu-reset`"),
    17: _Why(
        "the operating system keeps this process from the GPU's device files, as a container's device rules do",
        f"in a container, start it anew with the GPU: `docker run --gpus all`; {_DOCTOR}",
    ),
    18: _Why(
        "the driver's libraries and the loaded kernel module are of different versions, as after an update",
        "load the module that fits the libraries: `sudo reboot`",
    ),
    999: _Why(
        "NVML failed and does not say why",
        f"`sudo dmesg | grep -i nvrm` shows the driver's own words; {_DOCTOR}",
    ),
}


def refuse(answer: NvmlAnswer, seconds: float) -> None:
    """Pass an answer that describes a whole host.

    Args:
        seconds: how long NVML was waited for.

    Raises:
        MatchError: it does not, with the reason and the remedy.
    """
    _refuse_ending(answer, seconds)
    for call in answer.calls:
        if call.code and (call.name in _NEEDED or call.name == HANDLE):
            raise _refused(call)
    if answer.driver is None:
        raise MatchError("NVML answers, but does not say which driver this is", hint=_DOCTOR)
    if not answer.devices:
        raise MatchError(
            f"driver {answer.driver} answers, but it drives no GPU here",
            hint=f"`lspci -d 10de:` shows whether there is one; in a container, start it with `--gpus all`; {_DOCTOR}",
        )


_NEEDED = {INIT, "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount_v2", "nvmlDeviceGetName"}


def _refuse_ending(answer: NvmlAnswer, seconds: float) -> None:
    where = f" in {answer.at}" if answer.at else ""
    if answer.ended == "missing":
        raise _missing(answer.detail)
    if answer.ended == "timeout":
        raise MatchError(
            f"NVML did not answer within {seconds:g} s{f'; it hangs{where}' if where else ''}",
            hint=f"`sudo dmesg | grep -iE 'xid|nvrm'` shows what the driver waits for; {_DOCTOR}",
        )
    if answer.ended == "crashed":
        how = f"was ended by {answer.signal}" if answer.signal else "failed"
        said = f": {answer.detail}" if answer.detail else ""
        raise MatchError(
            f"the process that asks NVML {how}{where}{said}",
            hint=f"the driver's libraries are broken or do not fit together: install the driver again; {_DOCTOR}",
        )


def _missing(detail: str) -> MatchError:
    if "No such file" not in detail:  # such as "file too short", which containers leave behind
        return MatchError(
            f"libnvidia-ml.so.1 cannot be loaded ({detail})",
            hint=f"install the driver again, or start the container anew; {_DOCTOR}",
        )
    return MatchError(
        "this machine has no NVIDIA driver's user-space library "
        "(libnvidia-ml.so.1 is not found: NVML_ERROR_LIBRARY_NOT_FOUND, 12)",
        hint="run it on a GPU host, with the driver installed, or in a container started with `--gpus all`: "
        "`mlship hosts record hosts/NAME.json`",
    )


def _refused(call: Call) -> MatchError:
    why = _BY_CODE.get(call.code, _Why("NVML refuses", _DOCTOR))
    gpu = "" if call.device is None else f" of GPU {call.device}"
    return MatchError(f"{why.what} ({call.name}{gpu}: {call.error or 'code'} {call.code})", hint=why.hint)
