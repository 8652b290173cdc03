"""What a pin itself says of CUDA: by its name, its version, and the code that was measured in its wheel. Pure."""

import re
from fnmatch import fnmatchcase

from mlship.cuda.fit.judge import Kernels
from mlship.cuda.tables.lookup import library_pin
from mlship.cuda.versions import Capability, Cuda
from mlship.frameworks import framework_table, is_cuda_library, is_gpu_only
from mlship.lock.pins import Pin
from mlship.requirement_line import package_version

# faiss-gpu-cu12, cupy-cuda12x, nvidia-dali-cuda120, spconv-cu118; before CUDA 10, one digit each: cupy-cuda92
_SUFFIX = re.compile(r"-cu(?:da)?-?(1[0-9]|[5-9])([0-9])?x?(?:-|$)", re.ASCII)
_WORDS = {"cuda", "gpu"}
# cu126 (PyTorch), pt28cu128 (PyG), cu118torch2.1 and cu12torch2.8cxx11abifalse (flash-attn), cuda12.cudnn89
_BUILD = re.compile(r"(?:^|[^a-z])cu(?:da)?(1[0-9]|[5-9])\.?([0-9])?(?![0-9])", re.ASCII)
# pt28 and pt210 (PyG) are 2.8 and 2.10, torch2.1 and torch280 (natten) 2.1 and 2.8.0
_TORCH = re.compile(r"(?:pt([1-9])([0-9]{1,2})|torch([1-9])(?:\.([0-9]{1,2})|([0-9]{1,2}?)[0-9]?))(?![0-9])", re.ASCII)


def carries_cuda(pin: Pin) -> bool:
    """Whether anything about a package says that it contains CUDA code; CUDA's own libraries are not meant."""
    if library_pin(pin.name, pin.version) or _matches(pin.name, framework_table().cuda.without_code):
        return False
    listed = is_gpu_only(pin.name) or _matches(pin.name, framework_table().cuda.carriers)
    words = re.split(r"[-.]", f"{pin.name}-{local_version(pin)}")  # sherpa-onnx 1.12.11+cuda
    said = is_cuda_library(pin.name) or not _WORDS.isdisjoint(words)
    return listed or said or named_cuda(pin) is not None


def named_cuda(pin: Pin) -> Cuda | None:
    """The CUDA in a package's version (+cu126) or name (-cu12): 12.0 where only the major is named; None without."""
    found = _BUILD.search(local_version(pin) or "") or _SUFFIX.search(pin.name)
    return Cuda(int(found[1]), int(found[2] or 0)) if found else None


def linked_cuda(pin: Pin) -> Cuda | None:
    """The oldest CUDA that its measured libraries are linked with; None where it is in the libraries themselves."""
    majors = [int(major) for part in pin.code for major in part.cuda.split()]
    return Cuda(min(majors), 0) if majors else None


def kernels_of(pin: Pin, major: int, *, ptx: bool = True) -> tuple[Kernels, ...]:
    """The measured code of a pin, without libraries for another CUDA: bitsandbytes has one for each.

    Args:
        ptx: PTX counts; not where a row leaves it out, because the code does not show whether it loads.
    """
    fitting = [part for part in pin.code if not part.cuda or str(major) in part.cuda.split()]
    return tuple(
        Kernels(
            _capabilities(part.cubins),
            _capabilities(part.specific),
            _capabilities(part.ptx if ptx else ""),
            part.compressed,
        )
        for part in fitting or pin.code
    )


def _capabilities(text: str) -> tuple[Capability, ...]:
    return tuple(map(Capability.parse, text.split()))


def built_for_torch(pin: Pin) -> str | None:
    """The release of torch in a local version, such as "2.8" of +pt28cu128."""
    found = _TORCH.search(local_version(pin) or "")
    major, minor = [part for part in found.groups() if part] if found else ("", "0")
    return f"{major}.{int(minor)}" if major else None


def variant_cuda(variant: str | None) -> Cuda | None:
    """The CUDA in the name of a variant: 12.6 for cu126."""
    digits = (variant or "").removeprefix("cu")
    return Cuda(int(digits[:-1]), int(digits[-1])) if digits.isdecimal() and len(digits) >= 3 else None


def local_version(pin: Pin) -> str | None:
    """The local part of a version, such as "cu126" of 2.8.0+cu126."""
    version = package_version(pin.version)
    return version.local if version else None


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
