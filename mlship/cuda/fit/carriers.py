"""Which locked packages may contain CUDA code, and for which CUDA, by their names and versions alone. Pure."""

import re
from fnmatch import fnmatchcase

from packaging.version import InvalidVersion, Version

from mlship.cuda.tables.lookup import library_pin
from mlship.cuda.versions import Cuda
from mlship.frameworks import framework_table, is_cuda_library, is_gpu_only
from mlship.lock.pins import Pin

# faiss-gpu-cu12, cupy-cuda12x, nvidia-dali-cuda120, spconv-cu118; before CUDA 10, one digit each: cupy-cuda92
_SUFFIX = re.compile(r"-cu(?:da)?-?(1[0-9]|[5-9])([0-9])?x?(?:-|$)", re.ASCII)
_WORDS = {"cuda", "gpu"}


def carries_cuda(pin: Pin) -> bool:
    """Whether anything about a package says that it contains CUDA code; CUDA's own libraries are not meant."""
    if library_pin(pin.name, pin.version) or _matches(pin.name, framework_table().cuda.without_code):
        return False
    said = is_gpu_only(pin.name) or is_cuda_library(pin.name) or bool(_WORDS & set(pin.name.split("-")))
    return said or named_cuda(pin) is not None


def named_cuda(pin: Pin) -> Cuda | None:
    """The CUDA in a package's version (+cu126) or name (-cu12): 12.0 where only the major is named; None without."""
    suffix = _SUFFIX.search(pin.name)
    return variant_cuda(local_version(pin)) or (Cuda(int(suffix[1]), int(suffix[2] or 0)) if suffix else None)


def variant_cuda(variant: str | None) -> Cuda | None:
    """The CUDA in the name of a variant: 12.6 for cu126."""
    digits = (variant or "").removeprefix("cu")
    return Cuda(int(digits[:-1]), int(digits[-1])) if digits.isdecimal() and len(digits) >= 3 else None


def local_version(pin: Pin) -> str | None:
    """The local part of a version, such as "cu126" of 2.8.0+cu126."""
    try:
        return Version(pin.version).local
    except InvalidVersion:
        return None


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
