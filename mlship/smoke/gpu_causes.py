"""Why a GPU cannot be used, derived from the driver's codes and from what frameworks print. Pure."""

import re
from dataclasses import dataclass

from mlship.cuda.tables.lookup import cuda_library_of
from mlship.cuda.tables.rows import CudaLibrary
from mlship.driver.codes import code_tables, cuda_version
from mlship.known_texts import first_match
from mlship.smoke.result import fix


@dataclass(frozen=True)
class GpuCause:
    """What is wrong, in one line, and how to fix it."""

    why: str
    remedy: str


_LIBRARY = re.compile(r"(?P<file>lib\w+\.so\.(?P<major>\d+)[\d.]*): cannot open shared object file")
_CUFFT = {10: 11, 11: 12, 12: 13}  # CUDA by the major of libcufft, which is not CUDA's own
_WANTS = re.compile(r"Require cuDNN (?P<cudnn>\d[\d.]*\*?) and CUDA (?P<cuda>\d[\d.]*\*?)")


def of_code(code: int) -> GpuCause:
    """The usual cause of a code of CUDA."""
    known = code_tables().cuda.get(code)
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
    named = ((one, cuda_library_of(one["file"])) for one in _LIBRARY.finditer(text))
    found, library = next((pair for pair in named if pair[1]), (None, None))
    if found is None or library is None:
        return None
    number, wants = int(found["major"]), _WANTS.search(text)
    if library.name == "nvidia-cufft":
        major = _CUFFT.get(number)
    elif library.suffixed == "none" or "{major}" not in library.sonames[0]:  # its own
        major = int(wants["cuda"].partition(".")[0]) if wants else None
    else:
        major = number
    part = f"cuDNN {number}" if library.name == "nvidia-cudnn" else f"CUDA {major}" if major else "CUDA"
    why = f"{found['file']} of {part} is not found in the image{_offered(driver)}"
    if major and driver and major > driver // 1000:
        return GpuCause(why, fix("gpu.used", "newer_cuda", major=str(driver // 1000)))
    if "onnxruntime" in text:
        return GpuCause(why, fix("gpu.used", "onnxruntime", which=""))
    return GpuCause(why, fix("gpu.used", "package", package=_package(library, major)))


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


def _package(library: CudaLibrary, major: int | None) -> str:
    if major is None:
        return f"the {library.name} of your CUDA"
    return f"{library.name}-cu{major}" if major < 13 or not library.plain else library.name


def _offered(driver: int | None) -> str:
    return f" (the driver supports CUDA {cuda_version(driver)})" if driver else ""
