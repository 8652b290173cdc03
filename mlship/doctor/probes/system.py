"""Facts that only the host has: the kind of machine, SELinux, WSL, Jetson, MPS."""

import os
import re
from pathlib import Path

from mlship.doctor.facts.container import Container, Lxc
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host, Selinux, Tegra, Wsl
from mlship.doctor.probes.base import Look, here, lxc
from mlship.doctor.probes.files import below, names_in, text_of
from mlship.doctor.probes.kernel import release
from mlship.doctor.probes.tables import probe_tables

_METAL = re.compile(r"\.metal\b|bare ?metal", re.IGNORECASE)
_CSV = "/etc/nvidia-container-runtime/host-files-for-container.d"
_BOOLEANS = ("container_use_devices", "container_use_xserver_devices")
_AUDIT_BYTES = 1_000_000


def read_system(look: Look) -> Facts:
    """Reads files only. Inside a container, the host's facts stay unknown."""
    root = look.root
    if here(root) == "container":
        return Facts(container=Container(engine=engine_here(root), lxc=Lxc() if lxc(root) else None))
    return Facts(
        host=Host(
            virtualization=virtualization(root),
            wsl=wsl(root),
            tegra=tegra(root),
            selinux=selinux(root),
            binfmt=binfmt(root),
            mps=mps(root),
        )
    )


def engine_here(root: Path) -> Fact[str]:
    """The engine of this container, from its traces."""
    if lxc(root):
        return "lxc"
    if below(root, "/run/.containerenv").exists():
        return "podman"
    return "docker" if below(root, "/.dockerenv").exists() else UNKNOWN


def virtualization(root: Path) -> Fact[str]:
    """In systemd-detect-virt's words."""
    if _is_wsl(root):
        return "wsl"
    dmi = below(root, "/sys/class/dmi/id")
    content = " ".join((text_of(dmi / name) or "").strip() for name in ("sys_vendor", "product_name", "bios_vendor"))
    cpu = text_of(below(root, "/proc/cpuinfo"))
    virtual = cpu is not None and re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE) is not None
    if _METAL.search(content):
        return "none"
    found = next((name for name, pattern in probe_tables().machines.items() if re.search(pattern, content)), None)
    if found:
        return found
    if virtual:
        return "vm-other"
    return "none" if cpu is not None and "flags" in cpu else UNKNOWN


def _is_wsl(root: Path) -> bool:
    return "microsoft" in (known(release(root)) or "").lower()


def wsl(root: Path) -> Fact[Wsl]:
    content = known(release(root))
    if content is None:
        return UNKNOWN
    if not _is_wsl(root):
        return None
    drivers = names_in(below(root, "/usr/lib/wsl/drivers"))
    return Wsl(version="2" if "WSL2" in content else content.strip(), drivers=drivers)


def tegra(root: Path) -> Fact[Tegra]:
    content = text_of(below(root, "/etc/nv_tegra_release"))
    if content is None:
        return None if names_in(below(root, "/etc")) else UNKNOWN
    model = text_of(below(root, "/proc/device-tree/model"))
    csv = names_in(below(root, _CSV))
    return Tegra(
        release=tegra_release(content),
        model=model.strip("\0\n") if model else UNKNOWN,
        csv=csv if csv is None else tuple(name for name in csv if name.endswith(".csv")),
    )


def tegra_release(text: str) -> Fact[str]:
    """R36.4.0 of "# R36 (release), REVISION: 4.0, …". Pure."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"R{found[1]}.{found[2]}" if found else UNKNOWN


def selinux(root: Path) -> Fact[Selinux]:
    folder = below(root, "/sys/fs/selinux")
    enforce = text_of(folder / "enforce")
    if enforce is None:
        return None if names_in(below(root, "/sys/fs")) else UNKNOWN
    booleans = {name: text[:1] == "1" for name in _BOOLEANS if (text := text_of(folder / "booleans" / name))}
    mode = "Enforcing" if enforce.strip() == "1" else "Permissive"
    return Selinux(mode, booleans, _denials(below(root, "/var/log/audit/audit.log")))


def _denials(path: Path) -> Fact[tuple[str, ...]]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _AUDIT_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return UNKNOWN
    except OSError as error:
        return Unreadable((error.strerror or "").lower(), root=os.geteuid() != 0)
    return tuple(line for line in lines if re.search(r"avc: +denied.*(?:nvidia|dri/|xserver_misc_device)", line))[-10:]


def binfmt(root: Path) -> Fact[tuple[str, ...]]:
    names = names_in(below(root, "/proc/sys/fs/binfmt_misc"))
    return UNKNOWN if not names else tuple(name for name in names if name not in {"register", "status"})


def mps(root: Path) -> Fact[bool]:
    """Whether the MPS control daemon is running; unknown if /proc hides other users' processes."""
    folder = below(root, "/proc")
    pids = [name for name in names_in(folder) or () if name.isdigit()]
    if any((text_of(folder / pid / "comm") or "").startswith("nvidia-cuda-mps") for pid in pids):
        return True
    return False if "1" in pids else UNKNOWN
