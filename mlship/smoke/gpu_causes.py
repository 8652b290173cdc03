"""Why a GPU cannot be used, derived from the driver's codes and from what frameworks print. Pure."""

import re
from dataclasses import dataclass

from mlship.driver.codes import code_table, cuda_version
from mlship.known_texts import first_match
from mlship.smoke.result import fix


@dataclass(frozen=True)
class GpuCause:
    """What is wrong, in one line, and how to fix it."""

    why: str
    remedy: str


_LIBRARY = re.compile(
    r"(?P<file>lib(?P<name>cudart|cublasLt|cublas|cudnn|cufft|curand|cusparse|cusolver|nvrtc|nvJitLink|nccl)\w*"
    r"\.so\.(?P<major>\d+)[\d.]*): cannot open shared object file"
)
_PACKAGES = {"cudart": "cuda-runtime", "cublasLt": "cublas", "nvrtc": "cuda-nvrtc", "nvJitLink": "nvjitlink"}
_SUFFIXED = {"cudnn", "nccl"}  # the others dropped their -cu13
_CUDA_OF = {("cufft", 10): 11, ("cufft", 11): 12, ("cufft", 12): 13}  # by soname, where it is not CUDA's own
_LIKE_CUDA = {"cudart", "cublasLt", "cublas", "nvrtc", "nvJitLink"}
_WANTS = re.compile(r"Require cuDNN (?P<cudnn>\d[\d.]*\*?) and CUDA (?P<cuda>\d[\d.]*\*?)")


def of_code(code: int) -> GpuCause:
    """The usual cause of a code of CUDA."""
    known = code_table("cuda").get(code)
    if known and known.why:
        return GpuCause(f"{known.why} ({code})", known.hint)
    return GpuCause(f"the driver refuses ({code})", fix("gpu.visible", "unknown_code"))


def of_text(text: str, driver: int | None = None) -> GpuCause | None:
    """The cause that a text shows; None if the text is not a known one about GPUs.

    Args:
        driver: the CUDA version that the driver supports, such as 12040, if known.
    """
    return missing_library(text, driver) or _wants(text, driver) or _error(text) or _listed(text)


def missing_library(text: str, driver: int | None = None) -> GpuCause | None:
    """A CUDA library that something needs and the loader does not find in the image."""
    found = _LIBRARY.search(text)
    if found is None:
        return None
    name, number = found["name"], int(found["major"])
    wants = _WANTS.search(text)
    major = number if name in _LIKE_CUDA else _CUDA_OF.get((name, number)) or _major_of(wants)
    part = f"cuDNN {number}" if name == "cudnn" else f"CUDA {major}" if major else "CUDA"
    why = f"{found['file']} of {part} is not found in the image{_offered(driver)}"
    if major and driver and major > driver // 1000:
        return GpuCause(why, fix("gpu.used", "newer_cuda", major=str(driver // 1000)))
    if "onnxruntime" in text:
        return GpuCause(why, fix("gpu.used", "onnxruntime", which=""))
    return GpuCause(why, fix("gpu.used", "package", package=_package(name, major)))


def _wants(text: str, driver: int | None) -> GpuCause | None:
    """The message of onnxruntime if its CUDA provider does not start."""
    found = _WANTS.search(text)
    if found is None:
        return None
    why = f"onnxruntime could not start CUDA: it needs cuDNN {found['cudnn']} and CUDA {found['cuda']}"
    remedy = fix("gpu.used", "onnxruntime", which="; onnxruntime-gpu before 1.27 is for CUDA 12")
    return GpuCause(why + _offered(driver), remedy)


def _error(text: str) -> GpuCause | None:
    """The message of torch and of CUDA's samples: `Error 804: forward compatibility was attempted ...`."""
    found = re.search(r"(?i)(?:cuda|nvidia)[^\n]*\berror:? (?P<code>3[456]|46|10[01]|80[234]|999)\b", text)
    return of_code(int(found["code"])) if found else None


def _listed(text: str) -> GpuCause | None:
    match = first_match(text, "smoke-gpu")
    if match is None:
        return None
    values = {name: cuda_version(int(number)) for name, number in match.groups.items()}
    return GpuCause(match.why(**values), match.hint())


def _major_of(wants: re.Match[str] | None) -> int | None:
    return int(wants["cuda"].partition(".")[0]) if wants else None


def _package(name: str, major: int | None) -> str:
    stem = f"nvidia-{_PACKAGES.get(name, name)}"
    if major is None:
        return f"the {stem} of your CUDA"
    return f"{stem}-cu{major}" if major < 13 or name in _SUFFIXED else stem


def _offered(driver: int | None) -> str:
    return f" (the driver supports CUDA {cuda_version(driver)})" if driver else ""
