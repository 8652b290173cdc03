"""Why a GPU cannot be used, told from the driver's codes and from what frameworks print. Pure.

Each text has the one that it was captured from, or is documented as, in the tests.
"""

import re
from dataclasses import dataclass

REBUILD = "then `mlship build`"
RELOCK = "then `mlship lock` and `mlship build`"
_HOST = "`nvidia-smi` on the host must work first"


@dataclass(frozen=True)
class GpuCause:
    """What is wrong, in a line, and what mends it."""

    why: str
    remedy: str


CUDA_CODES = {
    3: GpuCause("the driver did not start", _HOST),
    34: GpuCause(
        "the image brings a stub of libcuda and hides the driver's",
        f"take folders named stubs out of LD_LIBRARY_PATH and of the image's ld.so.conf, {REBUILD}",
    ),
    35: GpuCause(
        "the driver is too old for the CUDA that the image brings",
        f"update the host's driver, or lock a build for an older CUDA, {RELOCK}",
    ),
    36: GpuCause(
        "the driver lacks a call that the image's CUDA needs",
        f"update the host's driver, or lock a build for an older CUDA, {RELOCK}",
    ),
    46: GpuCause("another process has the GPU for itself", "end it (`nvidia-smi` names it), or free another GPU"),
    100: GpuCause(
        "no CUDA-capable device is detected",
        f"{_HOST} and list a GPU; CUDA_VISIBLE_DEVICES must not hide it",
    ),
    101: GpuCause("CUDA_VISIBLE_DEVICES names a GPU that there is not", "take it out of `env` in mlship.yaml"),
    802: GpuCause(
        "the system is not yet initialized: its NVSwitch fabric is not up",
        "`sudo systemctl start nvidia-fabricmanager` on the host, in the driver's version; then try again",
    ),
    803: GpuCause(
        "libcuda and the kernel's driver are of versions that do not fit",
        "take CUDA's compat folder out of the image (it is older than the driver), or reboot a host whose driver was "
        f"updated; {_HOST}",
    ),
    804: GpuCause(
        "forward compatibility was attempted on a GPU that has none",
        "take CUDA's compat folder out of the image, and update the host's driver or lock a build for an older CUDA, "
        f"{RELOCK}",
    ),
    999: GpuCause(
        "the driver answers with an unknown error",
        f"`sudo modprobe nvidia_uvm` on the host and start the engine again; {_HOST}",
    ),
}
NVML_CODES = {
    4: "no permission",
    9: "driver not loaded",
    12: "library not found",
    15: "the GPU is lost",
    17: "the operating system or its cgroups block the GPU",
    18: "driver/library version mismatch",
    999: "unknown error",
}
_OTHER = GpuCause("the driver refuses", f"{_HOST}; look the code up under CUresult in CUDA's driver API")

_LIBRARY = re.compile(
    r"(?P<file>lib(?P<name>cudart|cublasLt|cublas|cudnn|cufft|curand|cusparse|cusolver|nvrtc|nvJitLink|nccl)\w*"
    r"\.so\.(?P<major>\d+)[\d.]*): cannot open shared object file"
)
_PACKAGES = {"cudart": "cuda-runtime", "cublasLt": "cublas", "nvrtc": "cuda-nvrtc", "nvJitLink": "nvjitlink"}
_SUFFIXED = {"cudnn", "nccl"}  # the others dropped their -cu13
_CUDA_OF = {("cufft", 10): 11, ("cufft", 11): 12, ("cufft", 12): 13}  # by soname, where it is not CUDA's own
_LIKE_CUDA = {"cudart", "cublasLt", "cublas", "nvrtc", "nvJitLink"}
_WANTS = re.compile(r"Require cuDNN (?P<cudnn>\d[\d.]*\*?) and CUDA (?P<cuda>\d[\d.]*\*?)")

_TEXTS = (
    (
        r"The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)",
        "the driver is too old for this torch: it offers CUDA {found}",
        f"update the host's driver, or lock a torch built for an older CUDA, {RELOCK}",
    ),
    (
        r"CUDA driver version is insufficient for CUDA runtime version",
        f"{CUDA_CODES[35].why} (35)",
        CUDA_CODES[35].remedy,
    ),
    (
        r"Torch not compiled with CUDA enabled",
        "this torch is a CPU build",
        f"lock a CUDA build of torch, {RELOCK}",
    ),
    (
        r"a CUDA-enabled jaxlib is not installed",
        "this jaxlib is a CPU build",
        f"write jax[cuda12] or jax[cuda13] in requirements.in, as the hosts' driver allows, {RELOCK}",
    ),
    (
        r"Cannot dlopen some GPU libraries",
        "tensorflow found no CUDA libraries of the versions that it wants",
        f"write tensorflow[and-cuda] in requirements.in, {RELOCK}",
    ),
    (
        r"Could not find cuda drivers on your machine",
        "tensorflow found no driver in the container",
        f"tensorflow[and-cuda] in requirements.in is the build that can use one, {RELOCK}; {_HOST}",
    ),
    (
        r"no kernel image is available for execution on the device",
        "the image has no kernels for this GPU's compute capability (209)",
        f"lock a build that has them: newer for a newer GPU, of an older CUDA for an older one, {RELOCK}",
    ),
    (
        r"no CUDA-capable device is detected|No CUDA GPUs are available",
        f"{CUDA_CODES[100].why} (100)",
        CUDA_CODES[100].remedy,
    ),
    (
        r"libcuda\.so(?:\.1)?: cannot open shared object file",
        "the driver's libcuda.so.1 is not in the container",
        f"write NVIDIA_DRIVER_CAPABILITIES: compute,utility under `env` in mlship.yaml, {REBUILD}",
    ),
)


def of_code(code: int) -> GpuCause:
    """What a code of CUDA's means; the code stays in the words."""
    known = CUDA_CODES.get(code, _OTHER)
    return GpuCause(f"{known.why} ({code})", known.remedy)


def of_text(text: str, driver: int | None = None) -> GpuCause | None:
    """Why something printed this; None where it says nothing of GPUs that is known.

    Args:
        driver: the CUDA version that the driver offers, such as 12040, where it is known.
    """
    return missing_library(text, driver) or _wants(text, driver) or _error(text) or _listed(text)


def tells(line: str) -> bool:
    """The line is worth keeping: it says why a GPU is not used."""
    return of_text(line) is not None


def cuda_name(version: int) -> str:
    """12040 as people write it."""
    return f"{version // 1000}.{version % 1000 // 10}"


def missing_library(text: str, driver: int | None = None) -> GpuCause | None:
    """A CUDA library that something needs and the image does not have where it is looked for."""
    found = _LIBRARY.search(text)
    if found is None:
        return None
    name, number = found["name"], int(found["major"])
    wants = _WANTS.search(text)
    major = number if name in _LIKE_CUDA else _CUDA_OF.get((name, number)) or _major_of(wants)
    part = f"cuDNN {number}" if name == "cudnn" else f"CUDA {major}" if major else "CUDA"
    why = f"{found['file']} of {part} is not found in the image{_offered(driver)}"
    if major and driver and major > driver // 1000:
        return GpuCause(why, f"lock a build for CUDA {driver // 1000}, which is what this host's driver can, {RELOCK}")
    if "onnxruntime" in text:
        remedy = (
            "write onnxruntime-gpu[cuda,cudnn] in requirements.in and call onnxruntime.preload_dlls() before the "
            f"session is made, {RELOCK}"
        )
        return GpuCause(why, remedy)
    return GpuCause(why, f"add {_package(name, major)} to requirements.in, {RELOCK}")


def _wants(text: str, driver: int | None) -> GpuCause | None:
    """The words of onnxruntime where its CUDA provider does not start."""
    found = _WANTS.search(text)
    if found is None:
        return None
    why = f"onnxruntime could not start CUDA: it wants cuDNN {found['cudnn']} and CUDA {found['cuda']}"
    remedy = (
        "write onnxruntime-gpu[cuda,cudnn] in requirements.in and call onnxruntime.preload_dlls() before the session "
        f"is made; onnxruntime-gpu before 1.27 is for CUDA 12, {RELOCK}"
    )
    return GpuCause(why + _offered(driver), remedy)


def _error(text: str) -> GpuCause | None:
    """The words of torch and of CUDA's samples: `Error 804: forward compatibility was attempted ...`."""
    found = re.search(r"(?i)(?:cuda|nvidia)[^\n]*\berror:? (?P<code>3[456]|46|10[01]|80[234]|999)\b", text)
    return of_code(int(found["code"])) if found else None


def _listed(text: str) -> GpuCause | None:
    for pattern, why, remedy in _TEXTS:
        if found := re.search(pattern, text):
            groups = {"found": cuda_name(int(found["found"]))} if found.groupdict() else {}
            return GpuCause(why.format(**groups), remedy)
    return None


def _major_of(wants: re.Match[str] | None) -> int | None:
    return int(wants["cuda"].partition(".")[0]) if wants else None


def _package(name: str, major: int | None) -> str:
    stem = f"nvidia-{_PACKAGES.get(name, name)}"
    if major is None:
        return f"the {stem} of your CUDA"
    return f"{stem}-cu{major}" if major < 13 or name in _SUFFIXED else stem


def _offered(driver: int | None) -> str:
    return f" (the driver offers CUDA {cuda_name(driver)})" if driver else ""
