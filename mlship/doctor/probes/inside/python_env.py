"""Examine the current Python environment: which GPU frameworks are installed; print one JSON object.

Reads only metadata and files: importing torch takes seconds and may fail. Any Python runs it, also in containers:
standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import sys

OURS = re.compile(
    r"torch|torchvision|torchaudio|triton|onnxruntime.*|ort-.*|tensorflow.*|tf-nightly.*|jax|jaxlib|jax-.*|nvidia-.*"
    r"|cuda-.*|cupy.*|tensorrt.*|vllm|flash-attn|xformers|bitsandbytes|pynvml|numba.*"
)
ARCHES = re.compile(rb"(?:sm|compute)_\d+[a-z]?(?: (?:sm|compute)_\d+[a-z]?)+")


def main() -> None:
    versions, folders = installed()
    found = {
        "prefix": sys.prefix,
        "version": sys.version.split()[0],
        "distributions": versions,
        "torch": torch(versions, folders),
        "onnxruntime": named(versions, "onnxruntime"),
        "tensorflow": tensorflow(versions, folders),
        "jax": jax(versions),
        "cupy": named(versions, "cupy"),
        "triton": named(versions, "triton"),
    }
    print(json.dumps(found))  # noqa: T201


def installed() -> tuple[dict[str, str], dict[str, str]]:
    """Versions by normalised name, and their folders; the first on the path counts."""
    versions: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sys.path:
        for entry in entries(path):
            found = re.match(r"(.+?)-([^-]+?)(?:-py[\d.]+)?\.(?:dist|egg)-info$", entry)
            name = re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""
            if found and OURS.fullmatch(name) and name not in versions:
                versions[name], folders[name] = version_of(path, entry) or found[2], path
    return dict(sorted(versions.items())), folders


def version_of(path: str, entry: str) -> str | None:
    """The version from the metadata, because folder names may write 2.11.0+cu130 as 2.11.0_cu130."""
    if "_" not in entry.partition("-")[2]:
        return None
    files = (os.path.join(path, entry, name) for name in ("METADATA", "PKG-INFO"))
    found = re.search(r"^Version: *(\S+)", "".join(map(text, files)), re.MULTILINE)
    return found[1] if found else None


def torch(versions: dict[str, str], folders: dict[str, str]) -> dict[str, object] | None:
    """Version and CUDA from torch/version.py, architectures from the library behind get_arch_list()."""
    if "torch" not in versions:
        return None
    folder = os.path.join(folders["torch"], "torch")
    content = text(os.path.join(folder, "version.py"))
    version = re.search(r"^__version__ = ['\"](.+)['\"]", content, re.MULTILINE)
    made: dict[str, object] = {"version": version[1] if version else versions["torch"]}
    cuda = re.search(r"^cuda(?:: .+?)? = (?:['\"](.+)['\"]|None)", content, re.MULTILINE)
    if cuda:
        made["cuda"] = cuda[1]
    arches = architectures(os.path.join(folder, "lib", "libtorch_python.so"))
    if arches:
        made["arch_list"] = arches
    return made


def architectures(path: str) -> list[str]:
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = ARCHES.search(data)
            return found[0].decode().split() if found else []
    except (OSError, ValueError):
        return []


def tensorflow(versions: dict[str, str], folders: dict[str, str]) -> dict[str, object] | None:
    name = next((name for name in ("tensorflow", "tensorflow-cpu", "tf-nightly") if name in versions), None)
    if name is None:
        return None
    content = text(os.path.join(folders[name], "tensorflow", "python", "platform", "build_info.py"))
    made: dict[str, object] = {"version": versions[name]}
    for key in ("cuda_version", "cudnn_version"):
        found = re.search(r"['\"]" + key + r"['\"]\s*[,:]\s*['\"]([^'\"]+)['\"]", content)
        if content:
            made[key] = found[1] if found else None
    return made


def jax(versions: dict[str, str]) -> dict[str, object] | None:
    if "jax" not in versions:
        return None
    return {"version": versions["jax"], "jaxlib_version": versions.get("jaxlib")}


def named(versions: dict[str, str], name: str) -> dict[str, object] | None:
    """A framework with several distribution names, such as onnxruntime-gpu."""
    found = next((known for known in versions if known == name or known.startswith((name + "-", name))), None)
    return None if found is None else {"version": versions[found]}


def entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path or "."))
    except OSError:
        return []


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1_000_000)
    except OSError:
        return ""


if __name__ == "__main__":
    main()
