"""Rules about driver branches and kernel modules that do not support the GPU."""

import re

from mlship.cuda.tables.lookup import tables
from mlship.doctor import commands
from mlship.doctor.facts.fact import each, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import PciDevice
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import PRE_TURING, architecture, kernel_driver, log_line
from mlship.doctor.rules.base import Rule
from mlship.doctor.rules.kernel import describe, free_gpus
from mlship.doctor.versions import branch

_NOT_KNOWN = r"not supported by the .*driver release|supported through the NVIDIA [0-9]+\.xx Legacy"
_WANTS_OPEN = r"requires use of the NVIDIA open kernel modules|requires .*open (GPU )?kernel modules"
_LEGACY = re.compile(r"NVIDIA ([0-9]+)\.xx Legacy")
_FAMILY = re.compile(r"(?:PCI ID|\[)[: ]*10de:([0-9a-fA-F]{4})")


def _version(facts: Facts) -> str | None:
    """The version of the loaded module, or of the one that would be loaded."""
    file = known(looked_up(facts.kernel.module_files, "nvidia"))
    return kernel_driver(facts) or (known(file.version) if file else None)


def _branches(name: str | None) -> tuple[int | None, int | None]:
    """First and last driver branch of a generation; None if there is no bound or it is unknown."""
    rows = [row for row in tables().gpus.architectures if row.name == (name or "").removesuffix(" or older")]
    first = min((row.first_branch for row in rows if row.first_branch), default=None)
    return first, max((row.last_branch for row in rows if row.last_branch), default=None)


def _unused(facts: Facts) -> tuple[PciDevice, ...]:
    """GPUs on the bus without a driver, if NVML is known not to count all of them."""
    waiting = tuple(gpu for gpu in free_gpus(facts) if known(gpu.driver) in {None, "nvidia"})
    code, count = known(facts.host.nvml.init), known(facts.host.nvml.device_count)
    counts_all = code in {None, 12, 18} if count is None else count >= len(waiting)
    return () if counts_all and not (count is None and code == 9) else waiting


def _lists(facts: Facts, gpu: PciDevice) -> bool:
    address = (known(gpu.address) or "?").lower()
    return any((known(one.pci_bus_id) or "").lower().endswith(address[-10:]) for one in each(facts.host.nvml.devices))


class DriverDoesNotKnowGpu(Rule, id="driver-does-not-drive-gpu"):
    def look(self, facts: Facts) -> Finding | None:
        version, line = _version(facts), log_line(facts, _NOT_KNOWN)
        if version is None or log_line(facts, _WANTS_OPEN):
            return None
        for gpu in _unused(facts):
            first, last = self._range(gpu, line)
            ours = int(branch(version) or 0)
            too_old, too_new = bool(first and ours < first), bool(last and ours > last)
            if _lists(facts, gpu) or not (too_old or too_new) or self._is_beside(facts, gpu):
                continue
            bound = first if too_old else last
            return self.found(
                facts,
                {
                    "open_packages": _open_packages(facts, max(bound or 0, 580)),
                    "legacy": _LEGACY_PACKAGES.get(commands.manager(facts) or "", "cuda-drivers-{0}").format(bound),
                    "gpu": describe(gpu),
                    "architecture": architecture(gpu) or "an older generation",
                    "bound": bound,
                    "too_old": too_old,
                    "version": version,
                },
                evidence=(
                    Evidence("kernel.pci", f"{describe(gpu)}: {architecture(gpu) or 'unknown generation'}"),
                    Evidence("kernel.nvidia.version", version),
                    Evidence("kernel.log", line) if line else None,
                ),
            )
        return None

    @staticmethod
    def _range(gpu: PciDevice, line: str | None) -> tuple[int | None, int | None]:
        """By the generation; what the module logs about this GPU takes precedence."""
        named, legacy = _FAMILY.search(line or ""), _LEGACY.search(line or "")
        device = (known(gpu.device) or "").lower()
        # The log wraps: another line often names the GPU.
        fits = named.group(1).lower() == device if named else architecture(gpu) in {None, *PRE_TURING}
        if legacy and fits:
            return None, int(legacy.group(1))
        return _branches(architecture(gpu))

    @staticmethod
    def _is_beside(facts: Facts, gpu: PciDevice) -> bool:
        """The card is old and only drives a display, next to GPUs that work."""
        return (architecture(gpu) or "").startswith("Kepler") and bool(known(facts.host.nvml.device_count))


_LEGACY_PACKAGES = {"apt": "nvidia-driver-{0}", "pacman": "nvidia-{0}xx-dkms nvidia-{0}xx-utils"}


def _open_packages(facts: Facts, bound: int) -> tuple[str, ...]:
    """Install the open kernel module from this distribution's packages."""
    ubuntu = "ubuntu" in f"{known(facts.host.os.id) or 'ubuntu'} {known(facts.host.os.like) or ''}"
    if commands.manager(facts) == "apt":
        return (commands.install_command(facts, f"nvidia-driver-{bound}-open" if ubuntu else "nvidia-open"),)
    if commands.manager(facts) == "pacman":
        return (commands.install_command(facts, "nvidia-open-dkms nvidia-utils"),)
    return (commands.install_command(facts, "nvidia-open"),)


class OpenModuleRequired(Rule, id="open-module-required"):
    def look(self, facts: Facts) -> Finding | None:
        line = log_line(facts, _WANTS_OPEN)
        waiting = [gpu for gpu in _unused(facts) if not _lists(facts, gpu)]
        closed = [gpu for gpu in waiting if self._is_required(gpu)]
        if self._is_open(facts) is not False and not (line and self._is_open(facts) is None):
            return None
        version = _version(facts) or ""
        old = any((_branches(architecture(gpu))[0] or 0) > int(branch(version) or 9999) for gpu in closed)
        if not waiting or not (line or closed) or ((old or not version) and not line):
            return None
        gpu = (closed or waiting)[0]
        return self.found(
            facts,
            {"open_packages": _open_packages(facts, int(branch(version) or 580)), "gpu": describe(gpu)},
            evidence=(
                Evidence("kernel.nvidia.flavour", "proprietary") if self._is_open(facts) is False else None,
                *(Evidence("kernel.pci", f"{describe(one)}: {architecture(one)}") for one in closed),
                Evidence("kernel.log", line) if line else None,
            ),
        )

    @staticmethod
    def _is_required(gpu: PciDevice) -> bool:
        return any(
            row.open_modules == "required" for row in tables().gpus.architectures if row.name == architecture(gpu)
        )

    @staticmethod
    def _is_open(facts: Facts) -> bool | None:
        flavour = known(facts.kernel.nvidia.flavour)
        if flavour is not None:
            return flavour == "open"
        file = known(looked_up(facts.kernel.module_files, "nvidia"))
        if file is None or not is_known(file.license) or known(file.license) is None:
            return None
        return known(file.license) == "Dual MIT/GPL"
