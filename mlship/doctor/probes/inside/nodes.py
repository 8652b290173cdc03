"""Examine device nodes, mounts, environment, user and shared memory of a process; print one JSON object.

    nodes.py [ROOT]

ROOT is a folder that stands for /; nodes are opened only below the real /. The keys are those of a place in a facts
file. Also run through `python -c` in containers: standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOKED_FOR = (
    *("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"),
    "/dev/dxg",
)
PATTERNS = (
    *("/dev/nvidia[0-9]*", "/dev/nvidia-caps/*", "/dev/nvidia-caps-imex-channels/*", "/dev/nvidia-nvswitch*"),
    *("/dev/nvidia-fs*", "/dev/dri/*", "/dev/nvmap", "/dev/nvhost-*"),
)
OPENED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dxg", "/dev/nvmap")
PATHS = (
    *("/run/ostree-booted", "/run/nvidia/driver", "/run/nvidia/validations"),
    *("/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket"),
    "/usr/local/nvidia/toolkit/nvidia-container-runtime",
    *("/usr/bin/nvidia-smi", "/usr/bin/nvidia-modprobe"),
    *("/usr/lib/wsl/lib", "/usr/lib/wsl/drivers", "/usr/lib/wsl/lib/libcuda.so.1"),
    *("/etc/nv_tegra_release", "/proc/driver/nvidia"),
    *("/dev/shm", "/tmp/nvidia-mps", "/dev/lxd/sock", "/dev/incus/sock"),  # noqa: S108  read, not written
)
VARIABLES = re.compile(
    r"(NVIDIA|CUDA|NCCL|PYTORCH|TORCH|XLA|JAX|CUPY|TRITON|ORT|TF_(CPP|CUDA|GPU|FORCE|XLA|ENABLE))_\w+|LD_(LIBRARY_PATH|PRELOAD)|DOCKER_(HOST|CONTEXT)"
    r"|CONDA_PREFIX|VIRTUAL_ENV|PYTHONPATH|KUBERNETES_SERVICE_HOST|MLSHIP_\w+|SLURM_(JOB_?ID|(JOB|STEP)_GPUS)"
)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
MOUNTS = re.compile(r"nvidia|cuda|/dev/shm$|/dev/dxg|/wsl/|^/etc/ld\.so|tegra|nvvm|ptxjit", re.IGNORECASE)
MOST_MOUNTS = 100


def main(root: str) -> None:
    found: dict[str, object] = {
        "device_nodes": device_nodes(root),
        "env": environment(root),
        "user": user(root),
        "paths": {path: kind_of(root, path) for path in PATHS},
        "mounts": mounts(root),
        "shm": shared_memory(root),
        "cgroup_device_rules": cgroup_rules(root),
    }
    print(json.dumps({key: value for key, value in found.items() if value != "unknown"}))  # noqa: T201


def device_nodes(root: str) -> object:
    """Nodes by path; null if missing. Unknown without /dev."""
    if not os.path.isdir(under(root, "/dev")):
        return "unknown"
    skip = len(root.rstrip("/"))
    listed = {path[skip:] for pattern in PATTERNS for path in glob.glob(under(root, pattern))}
    wanted = {f"/dev/nvidia{index}" for index in range(gpus(root))}
    return {path: node(root, path) for path in sorted({*LOOKED_FOR, *listed, *wanted})}


def gpus(root: str) -> int:
    """Number of GPUs of the driver; each has its own node."""
    try:
        return len(os.listdir(under(root, "/proc/driver/nvidia/gpus")))
    except OSError:
        return 0


def node(root: str, path: str) -> object:
    place = under(root, path)
    try:
        status = os.stat(place)
    except FileNotFoundError:
        return None
    except OSError as error:
        return unreadable(error)
    found: dict[str, object] = {
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
    name = group(root, status.st_gid)
    if name:
        found["group"] = name
    if stat.S_ISCHR(status.st_mode):
        found["major"], found["minor"] = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif root == "/":
        found["major"] = found["minor"] = None  # a file or folder instead of a node
    if root == "/" and (path in OPENED or re.match(r"/dev/nvidia\d+$", path)):
        found["open"] = opened(place)
    return found


def opened(path: str) -> str:
    """Open with O_NONBLOCK; otherwise the driver first starts the GPU, which takes one or two seconds."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "ok"


def group(root: str, gid: int) -> str | None:
    for line in (text(root, "/etc/group") or "").splitlines():
        parts = line.split(":")
        if len(parts) > 2 and parts[2] == str(gid):
            return parts[0]
    return None


def environment(root: str) -> object:
    """The relevant variables; possible secrets are already masked here."""
    if root == "/":
        return relevant(os.environ.items())
    content = text(root, "/proc/self/environ")
    if content is None:
        return "unknown"
    return relevant(line.partition("=")[::2] for line in content.split("\0") if "=" in line)


def relevant(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: masked(name, value) for name, value in sorted(pairs) if VARIABLES.fullmatch(name)}


def masked(name: str, value: str) -> str:
    """The value of a variable; asterisks if it may be a secret."""
    return "***" if SECRET.search(name) else value


def user(root: str) -> dict[str, object]:
    if root == "/":
        return {"uid": os.geteuid(), "gid": os.getegid(), "groups": sorted({os.getegid(), *os.getgroups()})}
    lines = dict(line.partition(":")[::2] for line in (text(root, "/proc/self/status") or "").splitlines())
    numbers = {key: [int(word) for word in lines.get(key, "").split()] for key in ("Uid", "Gid", "Groups")}
    if not numbers["Uid"] or not numbers["Gid"]:
        return {}
    uid, gid = numbers["Uid"][-1], numbers["Gid"][-1]
    return {"uid": uid, "gid": gid, "groups": sorted({gid, *numbers["Groups"]})}


def kind_of(root: str, path: str) -> object:
    """The kind of entry: "file", "folder", "socket", "-> target", null for nothing."""
    try:
        mode = os.lstat(under(root, path)).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return unreadable(error)
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(under(root, path))}"
    return "folder" if stat.S_ISDIR(mode) else "socket" if stat.S_ISSOCK(mode) else "file"


def mounts(root: str) -> object:
    content = text(root, "/proc/self/mountinfo")
    if content is None:
        return "unknown"
    keys = ("target", "source", "fstype", "read_only")
    return [dict(zip(keys, row)) for row in mounts_in(content.splitlines())]  # noqa: B905  Python 3.8 has no strict


def mounts_in(lines: list[str]) -> list[tuple[str, str, str, bool]]:
    """Target, source, type and whether it is read-only, of the relevant lines of mountinfo."""
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        parts, rest = before.split(), after.split()
        if len(parts) > 5 and len(rest) > 1 and MOUNTS.search(plain(parts[4])):
            source = plain(parts[3]) if rest[0] not in ("tmpfs", "proc", "devtmpfs", "sysfs") else rest[1]
            found.append((plain(parts[4]), source, rest[0], "ro" in parts[5].split(",")))
    return found[:MOST_MOUNTS]


def plain(word: str) -> str:
    """Decode a name; mountinfo writes a space as its octal code."""
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), word)


def shared_memory(root: str) -> object:
    if root != "/":
        return "unknown"
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108  only its size is read
    except FileNotFoundError:
        return None
    except OSError as error:
        return unreadable(error)
    return found.f_frsize * found.f_blocks


def cgroup_rules(root: str) -> object:
    """The rules of cgroup v1; cgroup v2 keeps them in an eBPF program that cannot be read."""
    content = text(root, "/sys/fs/cgroup/devices/devices.list")
    return "unknown" if content is None else content.split("\n")[:-1]


def under(root: str, path: str) -> str:
    return path if root == "/" else root.rstrip("/") + path


def text(root: str, path: str) -> str | None:
    try:
        with open(under(root, path), encoding="utf-8", errors="replace") as file:
            return file.read(4_000_000)
    except OSError:
        return None


def unreadable(error: OSError) -> dict[str, object]:
    why: dict[str, object] = {"unreadable": (error.strerror or str(error)).lower()}
    if isinstance(error, PermissionError) and os.geteuid():
        why["root"] = True
    return why


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/")
