"""Examine the dynamic loader's search path, the C library and the distribution; print one JSON object.

    loader.py [ROOT]

ROOT is a folder that stands for /. The program only reads files: the loader's cache instead of `ldconfig -p`, the note
of a cuda-compat library instead of `readelf`. The keys are those of a place in a facts file.

Also run through `python -c` in containers: standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import re
import struct
import sys

OURS = re.compile(
    r"lib(cuda|cudnn|cublas|cufft|curand|cusolver|cusparse|cupti|cufile|nvidia|nv|nccl|npp|nvjpeg|tegra)[\w.+-]*\.so"
)
FOLDERS_OF_OURS = re.compile(r"nvidia|cuda|compat|stubs|wsl|tegra", re.IGNORECASE)
DRIVER = ("libcuda.so*", "libnvidia-ml.so*")
SYSTEM = (
    *("/usr/lib/*-linux-gnu" + folder for folder in ("", "/nvidia", "/nvidia/*", "/tegra")),
    *("/usr/lib64", "/usr/lib64/nvidia", "/usr/lib", "/usr/lib/nvidia*"),
    *("/lib/*-linux-gnu", "/lib64", "/usr/local/lib", "/usr/lib/wsl/lib"),
    *("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/home/kubernetes/bin/nvidia/lib64"),
    *("/opt/nvidia/lib64", "/run/opengl-driver/lib"),
)
COMPAT = ("/usr/local/cuda*/compat", "/usr/local/cuda*/compat_orin", "/usr/lib/*-linux-gnu/cuda-compat")
STUBS = ("/usr/local/cuda*/lib64/stubs", "/usr/local/cuda*/targets/*/lib/stubs", "/usr/lib/*-linux-gnu/stubs")
GLIBC = (
    *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib64/ld64.so.2"),
    *("/lib/ld-linux-armhf.so.3", "/lib/ld-linux-riscv64-lp64d.so.1"),
)
LIBC = ("/lib/*-linux-gnu/libc.so.6", "/usr/lib/*-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6")
NOTE = ".note.cuda.fwd_compatibility"
# Names of other files of the same driver, found inside libcuda.
VERSION = re.compile(rb"(?:nvidia-application-profiles-|libnvidia-pkcs11\.so\.)(\d{3,}\.\d+(?:\.\d+)?)")
MOST = 200_000_000


def main(root: str) -> None:
    found = {"loader": loader(root, search_path(root)), "libc": libc(root), "os": system(root)}
    print(json.dumps(found))  # noqa: T201


def loader(root: str, path: list[str]) -> dict[str, object]:
    conf = conf_folders(root)
    named = [*path, *[folder for folders in conf.values() for folder in folders]]
    compat, stubs = here(root, COMPAT), here(root, STUBS)
    everywhere = sorted({*here(root, SYSTEM), *named, *compat, *stubs})
    stubs += [folder for folder in named if "stubs" in folder]
    return {
        "cache": cache(root),
        "conf": conf,
        "libraries": libraries(root, everywhere),
        "compat": compat_folders(root, [*compat, *[folder for folder in named if "compat" in folder]]),
        "stubs": sorted({real(root, folder) for folder in stubs if drivers(root, folder)}),
    }


def search_path(root: str) -> list[str]:
    """The folders of LD_LIBRARY_PATH."""
    if root == "/":
        content = os.environ.get("LD_LIBRARY_PATH", "")
    else:
        lines = text(root, "/proc/self/environ").split("\0")
        content = next((line.partition("=")[2] for line in lines if line.startswith("LD_LIBRARY_PATH=")), "")
    return [folder for folder in re.split("[:;]", content) if folder.startswith("/")]


def here(root: str, patterns: tuple[str, ...]) -> list[str]:
    skip = len(root.rstrip("/"))
    return sorted({path[skip:] for pattern in patterns for path in glob.glob(under(root, pattern))})


def drivers(root: str, folder: str) -> list[str]:
    """Every libcuda and NVML in a folder."""
    listed = names(root, folder)
    return [f"{folder}/{name}" for name in listed if any(fnmatch.fnmatch(name, pattern) for pattern in DRIVER)]


def libraries(root: str, folders: list[str]) -> list[dict[str, object]]:
    """Every libcuda and libnvidia-ml, each file once."""
    mounted = mount_targets(root)
    files = {real(root, path) for folder in folders for path in drivers(root, folder)}
    return [
        given(path=path, version=version_of(root, path), mounted=None if mounted is None else path in mounted)
        for path in sorted(files)
        if os.path.isfile(under(root, path))
    ]


def given(**facts: object) -> dict[str, object]:
    """Without the unknown ones."""
    return {name: value for name, value in facts.items() if value is not None}


def version_of(root: str, path: str) -> str | None:
    """The driver version from the file name (libcuda.so.550.54.15), else from inside libcuda."""
    named = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", path)
    if named or "libcuda" not in path:
        return named[1] if named else None
    inside = VERSION.search(data(root, path) or b"")
    return inside[1].decode() if inside else None


def mount_targets(root: str) -> set[str] | None:
    """Of the process; None if they cannot be read."""
    content = text(root, "/proc/self/mountinfo")
    return {line.split()[4] for line in content.splitlines() if len(line.split()) > 4} if content else None


def compat_folders(root: str, folders: list[str]) -> list[dict[str, object]]:
    """Forward-compatibility folders, with their driver version and ELF note."""
    found: dict[str, dict[str, object]] = {}
    for folder in folders:
        path = real(root, folder)
        files = [real(root, f"{path}/{name}") for name in names(root, path) if fnmatch.fnmatch(name, "libcuda.so*")]
        if files and path not in found:
            version = next((version for file in files if (version := version_of(root, file))), None)
            found[path] = given(path=path, version=version, driver_branches=compat_note(under(root, files[0])))
    return [found[path] for path in sorted(found)]


def compat_note(path: str) -> list[str] | None:
    """Kernel driver branches that a compat library supports; None if it has no note."""
    desc = note_text(section(path, NOTE))
    try:
        content = json.loads(desc[desc.index("{") : desc.rindex("}") + 1])
        return [str(branch) for branch in content["Driver"]]
    except (ValueError, KeyError, TypeError):
        return None


def note_text(found: bytes | None) -> str:
    """The description of an ELF note."""
    if found is None or len(found) < 12:
        return ""
    name, size, _ = struct.unpack("<III", found[:12])
    start = 12 + (name + 3) // 4 * 4
    return found[start : start + size].decode("utf-8", "replace")


def section(path: str, wanted: str) -> bytes | None:
    """A section of a little-endian 64-bit ELF file; None if there is none or it is another kind of file."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
                return None
            (table,) = struct.unpack_from("<Q", head, 40)
            size, count, strings = struct.unpack_from("<HHH", head, 58)
            if size != 64 or strings >= count:
                return None
            file.seek(table)
            rows = [struct.unpack_from("<IIQQQQ", file.read(64)) for _ in range(count)]
            file.seek(rows[strings][4])
            names = file.read(min(rows[strings][5], MOST))
            for row in rows:
                if names[row[0] :].partition(b"\0")[0] == wanted.encode():
                    file.seek(row[4])
                    return file.read(min(row[5], MOST))
    except (OSError, struct.error, ValueError, OverflowError):
        pass
    return None


def cache(root: str) -> dict[str, list[str]] | None:
    """NVIDIA and CUDA entries of the loader's cache; None if there is no cache, as with musl."""
    found = data(root, "/etc/ld.so.cache")
    if found is None:
        return None
    made: dict[str, list[str]] = {}
    for name, path in cache_entries(found):
        if OURS.match(name) and path not in made.setdefault(name, []):
            made[name].append(path)
    return dict(sorted(made.items()))


def cache_entries(found: bytes) -> list[tuple[str, str]]:
    """Name and path of every entry of this processor's width, in order; format of glibc 2.2 and later."""
    start = found.find(b"glibc-ld.so.cache1.1")
    if start < 0:
        return []
    entries = []
    try:
        (count,) = struct.unpack_from("<I", found, start + 20)
        for index in range(count):
            flags, key, value = struct.unpack_from("<iII", found, start + 48 + 24 * index)
            entries.append((flags & 0xFF00, string_at(found, start + key), string_at(found, start + value)))
    except struct.error:
        pass
    wide = any(kind for kind, _, _ in entries)
    return [(name, path) for kind, name, path in entries if name and path and (kind or not wide)]


def string_at(found: bytes, start: int) -> str:
    end = found.find(b"\0", start)
    return found[start : end if end >= 0 else None].decode("utf-8", "replace")


def conf_folders(root: str) -> dict[str, list[str]]:
    """Files of ld.so.conf.d with NVIDIA or CUDA folders, and those folders."""
    found = {}
    for file in ["/etc/ld.so.conf", *here(root, ("/etc/ld.so.conf.d/*.conf",))]:
        lines = [line.partition("#")[0].strip() for line in text(root, file).split("\n")]
        ours = [line for line in lines if line.startswith("/") and FOLDERS_OF_OURS.search(line)]
        if ours:
            found[file] = ours
    return found


def libc(root: str) -> dict[str, object]:
    glibc = next((path for path in GLIBC if os.path.exists(under(root, real(root, path)))), None)
    musl = next(iter(here(root, ("/lib/ld-musl-*.so.1",))), None)
    if not os.path.isdir(under(root, "/lib")) and not os.path.isdir(under(root, "/usr/lib")):
        return {}
    alpine = os.path.exists(under(root, "/etc/alpine-release"))
    family = "musl" if musl and (alpine or not glibc) else "glibc" if glibc else None
    version = libc_version(root, musl if family == "musl" else None)
    return dict(given(family=family, version=version), glibc_loader=glibc, musl_loader=musl)


def libc_version(root: str, musl: str | None) -> str | None:
    """The version in the library itself."""
    if musl:
        found = re.search(rb"\0(1\.\d+\.\d+)\0", data(root, real(root, musl)) or b"")
        return found[1].decode() if found else None
    for path in here(root, LIBC):
        found = re.search(rb"stable release version (\d+\.\d+)", data(root, real(root, path)) or b"")
        if found:
            return found[1].decode()
    return None


def system(root: str) -> dict[str, object]:
    """/etc/os-release and the processor."""
    arch = os.uname().machine if root == "/" else processor(root)
    return given(arch=arch, **distribution(text(root, "/etc/os-release") or text(root, "/usr/lib/os-release")))


def distribution(release: str) -> dict[str, str]:
    """Facts from the text of os-release."""
    pairs = dict(line.partition("=")[::2] for line in release.splitlines())
    keys = (("id", "ID"), ("version_id", "VERSION_ID"), ("like", "ID_LIKE"), ("name", "PRETTY_NAME"))
    return {key: pairs[name].strip().strip("\"'") for key, name in keys if name in pairs}


def processor(root: str) -> str | None:
    """The processor that the folder's programs are built for."""
    there = [path for path in [*GLIBC, *here(root, ("/lib/ld-musl-*",))] if os.path.lexists(under(root, path))]
    for name, arch in (("x86-64", "x86_64"), ("x86_64", "x86_64"), ("aarch64", "aarch64")):
        if any(name in path for path in there):
            return arch
    return None


def names(root: str, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(under(root, real(root, folder))))
    except OSError:
        return []


def real(root: str, path: str) -> str:
    """Resolve links as if ROOT were /."""
    if root == "/":
        return os.path.realpath(path)
    done, rest, steps = "", path.strip("/").split("/"), 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done.rpartition("/")[0]
        elif part not in ("", "."):
            place = f"{done}/{part}"
            if steps < 40 and os.path.islink(under(root, place)):
                steps += 1
                target = os.readlink(under(root, place))
                done = "" if target.startswith("/") else done
                rest = target.strip("/").split("/") + rest
            else:
                done = place
    return done or "/"


def text(root: str, path: str) -> str:
    """The text of a file; empty if it cannot be read."""
    return (data(root, path) or b"").decode("utf-8", "replace")


def data(root: str, path: str) -> bytes | None:
    try:
        with open(under(root, real(root, path)) if root != "/" else path, "rb") as file:
            return file.read(MOST)
    except OSError:
        return None


def under(root: str, path: str) -> str:
    return path if root == "/" else root.rstrip("/") + path


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/")
