"""The running kernel: NVIDIA's driver, the PCI bus, the command line."""

import os
import re
from pathlib import Path

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Dkms, Flavour, Kernel, LoadedModule, PciDevice, ProcDriver
from mlship.doctor.probes import moments
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.files import below, live, names_in, text_at, text_of, unreadable
from mlship.doctor.probes.tables import probe_tables
from mlship.doctor.queries import NVIDIA

_PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids")
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def read_kernel(look: Look) -> Facts:
    """Reads only /proc and /sys: fast, and runs no program."""
    root = look.root
    return Facts(
        kernel=Kernel(
            release=release(root),
            cmdline=_stripped(root, "/proc/cmdline"),
            boot_time=boot_time(text_of(below(root, "/proc/stat")) or ""),
            secure_boot=secure_boot(root),
            enrolled_signers=enrolled_signers(root),
            lockdown=lockdown(text_of(below(root, "/sys/kernel/security/lockdown"))),
            pci=pci(root),
            modules=modules(root),
            dkms=dkms(root),
            nvidia=proc_driver(root),
            proc_devices=proc_devices(text_of(below(root, "/proc/devices"))),
            cgroup_version=cgroup_version(root),
        )
    )


def release(root: Path) -> Fact[str]:
    return os.uname().release if live(root) else _stripped(root, "/proc/sys/kernel/osrelease")


def _stripped(root: Path, path: str) -> Fact[str]:
    found = text_at(root, path)
    return UNKNOWN if found is None else found.strip() if isinstance(found, str) else found


def boot_time(stat: str) -> Fact[str]:
    """From /proc/stat. Pure."""
    found = re.search(r"^btime (\d{1,11})$", stat, re.MULTILINE)
    return moments.moment(int(found[1])) if found else UNKNOWN


def lockdown(text: str | None) -> Fact[str]:
    """The value in brackets. Pure."""
    found = re.search(r"\[(\w+)\]", text or "")
    return found[1] if found else UNKNOWN


def secure_boot(root: Path) -> Fact[bool]:
    """The EFI variable: four bytes of attributes, then the value. Absent on a machine without EFI."""
    firmware = below(root, "/sys/firmware")
    names = names_in(firmware)
    if not names:  # engines hide this folder from containers
        return UNKNOWN
    if "efi" not in names:
        return False
    variables = firmware / "efi" / "efivars"
    try:
        value = (variables / _SECURE_BOOT).read_bytes()
    except FileNotFoundError:
        return False if names_in(variables) else Unreadable("EFI variables are not mounted")
    except OSError as error:
        return unreadable(error)
    return value[-1:] == b"\x01"


def enrolled_signers(root: Path) -> Fact[tuple[str, ...]]:
    """Accepted module signers, from the kernel's keyrings; only root sees all of them."""
    found = text_at(root, "/proc/keys")
    if live(root) and os.geteuid() != 0:
        return Unreadable("only root can read the kernel's keyrings", root=True)
    return signers(found) if isinstance(found, str) else UNKNOWN


def signers(keys: str) -> Fact[tuple[str, ...]]:
    """Names of the certificates in /proc/keys; unknown if there are none. Pure."""
    names = re.findall(r"\basymmetri\S* +(.+?): [0-9a-f]{8,}: X509", keys)
    return tuple(dict.fromkeys(names)) or UNKNOWN


def pci(root: Path) -> Fact[tuple[PciDevice, ...]]:
    """Display adapters and NVIDIA devices; empty if /sys/bus exists without any."""
    folder = below(root, "/sys/bus/pci/devices")
    names = names_in(folder)
    if names is None:
        return () if names_in(below(root, "/sys/bus")) else UNKNOWN
    found = [device for name in names if (device := _pci_device(root, folder / name)) is not None]
    return tuple(found)


def _pci_device(root: Path, folder: Path) -> PciDevice | None:
    vendor, device, kind = (_hex(folder / name) for name in ("vendor", "device", "class"))
    if vendor is None or kind is None or (vendor != NVIDIA and not kind.startswith("03")):
        return None
    driver = folder / "driver"
    return PciDevice(
        address=folder.name,
        vendor=vendor,
        device=device or UNKNOWN,
        class_code=kind,
        driver=Path(os.readlink(driver)).name if driver.is_symlink() else None,  # noqa: PTH115  text
        revision=_revision(folder),
        name=_pci_name(root, folder.name, device) if vendor == NVIDIA else UNKNOWN,
    )


def _hex(path: Path) -> str | None:
    text = text_of(path)
    return text.strip().removeprefix("0x").lower() if text else None


def _revision(folder: Path) -> Fact[str]:
    """From the configuration space, which reads as ones after a device fell off the bus; sysfs keeps the old value."""
    try:
        head = (folder / "config").read_bytes()[:4]
    except OSError:
        head = b""
    if head == b"\xff\xff\xff\xff":
        return "ff"
    return _hex(folder / "revision") or UNKNOWN


def _pci_name(root: Path, address: str, device: str | None) -> Fact[str]:
    """The name from the driver, else from the list of PCI IDs."""
    content = text_of(below(root, f"/proc/driver/nvidia/gpus/{address}/information")) or ""
    model = re.search(r"^Model:\s*(.+?)\s*$", content, re.MULTILINE)
    if model and "Unknown" not in model[1]:
        return model[1]
    for path in _PCI_IDS:
        if device and (name := listed_name(text_of(below(root, path)) or "", device)):
            return name
    return UNKNOWN


def listed_name(ids: str, device: str) -> str | None:
    """Name of the NVIDIA device with that ID in the list of PCI IDs. Pure."""
    ours = re.split(r"^10de  .*\n", ids, maxsplit=1, flags=re.MULTILINE)
    part = re.split(r"^[0-9a-f]{4}  ", ours[-1], maxsplit=1, flags=re.MULTILINE)[0] if len(ours) > 1 else ""
    found = re.search(rf"^\t{re.escape(device)}  (.+)$", part, re.MULTILINE)
    return found[1] if found else None


def modules(root: Path) -> Fact[dict[str, Fact[LoadedModule]]]:
    """From /sys/module, which only lacks built-in modules without parameters; none of these is one."""
    folder = below(root, "/sys/module")
    if not names_in(folder):
        return UNKNOWN
    return {name: _module(folder / name) for name in probe_tables().modules}


def _module(folder: Path) -> Fact[LoadedModule]:
    if not folder.is_dir():
        return None
    version, users = text_of(folder / "version"), text_of(folder / "refcnt")
    return LoadedModule(
        version=version.strip() if version else UNKNOWN,
        refcnt=int(users) if users and users.strip().lstrip("-").isdigit() else UNKNOWN,
    )


def proc_driver(root: Path) -> ProcDriver:
    """/proc/driver/nvidia; a part that is missing is absent only if /proc can be listed."""
    version, params = (text_at(root, f"/proc/driver/nvidia/{name}") for name in ("version", "params"))
    missing = UNKNOWN if names_in(below(root, "/proc")) is None else None
    number, flavour = parse_version(version) if isinstance(version, str) else (version, version)
    return ProcDriver(
        version=missing if number is None else number,
        flavour=missing if flavour is None else flavour,
        params=missing if params is None else parse_params(params) if isinstance(params, str) else params,
    )


def parse_version(text: str) -> tuple[Fact[str], Fact[Flavour]]:
    """Version and flavour from /proc/driver/nvidia/version. Pure."""
    line = next((line for line in text.splitlines() if line.startswith("NVRM version:")), "")
    found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", f"{line} ")
    flavour: Flavour = "open" if "Open Kernel Module" in line else "proprietary"
    return (found[1], flavour) if found else (UNKNOWN, UNKNOWN)


def parse_params(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip().strip('"') for key, colon, value in pairs if colon and key.strip()}


def proc_devices(text: str | None) -> Fact[dict[str, int]]:
    """NVIDIA's character devices in /proc/devices. Pure."""
    if text is None:
        return UNKNOWN
    characters = text.partition("Block devices:")[0]
    found = re.findall(r"^\s*(\d{1,4}) (nvidia\S*|dxg\S*|drm)$", characters, re.MULTILINE)
    return {name: int(major) for major, name in found}


def dkms(root: Path) -> Fact[tuple[Dkms, ...]]:
    """From DKMS's own folder, like `dkms status`; absent without DKMS."""
    folder = below(root, "/var/lib/dkms")
    names = names_in(folder)
    if names is None:
        return None if names_in(below(root, "/var/lib")) else UNKNOWN
    return tuple(row for name in names if name.startswith("nvidia") for row in _dkms_module(folder / name))


def _dkms_module(folder: Path) -> list[Dkms]:
    rows = []
    for version in names_in(folder) or ():
        if version.startswith("kernel-") or not (folder / version).is_dir():
            continue
        kernels = [name for name in names_in(folder / version) or () if name not in {"source", "build"}]
        built = [name for name in kernels if any((folder / version / name).glob("*/module"))]
        for kernel in built:
            linked = any(folder.glob(f"kernel-{kernel}-*"))
            rows.append(Dkms(folder.name, version, kernel, "installed" if linked else "built"))
        if not built:
            rows.append(Dkms(folder.name, version, UNKNOWN, "added"))
    return rows


def cgroup_version(root: Path) -> Fact[int]:
    folder = below(root, "/sys/fs/cgroup")
    if (folder / "cgroup.controllers").exists():
        return 2
    return 1 if any((folder / name).is_dir() for name in ("devices", "memory", "systemd")) else UNKNOWN
