"""Rules about WSL2, where the driver lives in Windows and Linux gets its libraries from /usr/lib/wsl."""

from mlship.doctor import commands
from mlship.doctor.facts.fact import is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import is_compat, is_wsl, line_of, wsl_lacks_nvidia
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_LIBCUDA = "/usr/lib/wsl/lib/libcuda.so.1"
_NO_ADAPTER = "no adapters were found"
_WANTS_GPU = rf"{_NO_ADAPTER}|nvidia-container-cli|NVIDIA-SMI|NVML|CUDA|could not select device driver"
_PURGE = {
    "apt": "sudo apt-get purge 'nvidia-driver-*' 'nvidia-utils-*' 'nvidia-dkms-*' 'libnvidia-*' 'cuda-drivers*'",
    "dnf": "sudo dnf remove 'nvidia-driver*' 'kmod-nvidia*' 'libnvidia-*' 'cuda-drivers*'",
    "zypper": "sudo zypper remove 'nvidia-driver*' 'nvidia-compute*' 'cuda-drivers*'",
    "pacman": "sudo pacman -Rns nvidia-utils",
    "apk": "sudo apk del nvidia-utils",
}
_DRIVER_PACKAGES = (
    *("libnvidia-compute", "nvidia-utils", "nvidia-driver", "nvidia-dkms", "nvidia-kernel", "cuda-drivers"),
    *("libcuda1", "libnvidia-ml1", "kmod-nvidia", "nvidia-compute-utils"),
)


class NoAdapters(Rule, id="wsl-no-adapters"):
    def look(self, facts: Facts) -> Finding | None:
        wanted = self._wanted(facts)
        no_folder, no_library = wsl_lacks_nvidia(facts), self._no_library(facts)
        if not is_wsl(facts) or not wanted or known(facts.host.cuda.init) == 0:
            return None
        drivers = known(wsl.drivers) if (wsl := known(facts.host.wsl)) else None
        reported = line_of(facts, _NO_ADAPTER)
        if not no_folder and (drivers is not None or not (no_library or reported)):
            return None
        return self.found(
            facts,
            {"works_in_windows": self._works_in_windows(facts)},
            certain=no_folder,
            evidence=(
                Evidence("host.wsl.drivers", ", ".join(drivers) or "none") if drivers is not None else None,
                Evidence("host.paths", f"{_LIBCUDA}: missing") if no_library else None,
                wanted,
            ),
        )

    @staticmethod
    def _works_in_windows(facts: Facts) -> bool:
        wsl = known(facts.host.wsl)
        return bool(wsl and known(wsl.windows_nvidia_smi))

    def _wanted(self, facts: Facts) -> Evidence | None:
        """Evidence that a GPU is expected: a machine without one is fine."""
        reported = line_of(facts, _WANTS_GPU)
        if reported or not self._works_in_windows(facts):
            asked = known(facts.container.host_config.gpus)
            return reported or (Evidence("container.host_config.gpus", ", ".join(asked)) if asked else None)
        return Evidence("host.wsl.windows_nvidia_smi", "nvidia-smi works in Windows")

    @staticmethod
    def _no_library(facts: Facts) -> bool:
        return is_absent(looked_up(facts.host.paths, _LIBCUDA))


class LinuxDriverInWsl(Rule, id="wsl-linux-driver-installed"):
    def look(self, facts: Facts) -> Finding | None:
        foreign = self._foreign(facts)
        if not is_wsl(facts) or known(facts.host.cuda.init) == 0 or wsl_lacks_nvidia(facts):
            return None
        packages, asked = self._packages(facts), is_known(facts.host.cuda.library)
        if not foreign and (asked or not packages):
            return None
        code = known(facts.host.nvml.init)
        taken = foreign[0].value if foreign else "its libraries"
        by_hand = known(facts.host.packages.installed) is not None and not packages
        return self.found(
            facts,
            {
                "purge": "sudo nvidia-uninstall" if by_hand else _PURGE.get(commands.manager(facts) or "", ""),
                "taken": taken,
            },
            certain=bool(foreign),
            evidence=(
                *foreign,
                Evidence("host.nvml.init", codes.nvml(code)) if code else None,
                Evidence("host.packages.installed", ", ".join(packages)) if packages else None,
            ),
        )

    @staticmethod
    def _foreign(facts: Facts) -> tuple[Evidence, ...]:
        """Driver libraries that the loader picks from elsewhere; compat and stub folders are other failures."""
        found: list[tuple[str, str]] = []
        for name, fact in (("cuda", facts.host.cuda.library), ("nvml", facts.host.nvml.library)):
            if library := known(fact):
                found.append((f"host.{name}.library", library.path))
        cached = (known(facts.host.loader.cache) or {}).get("libcuda.so.1") or ()
        found += [("host.loader.cache", path) for path in cached[:1]]
        return tuple(
            Evidence(fact, path)
            for fact, path in found
            if "/wsl/" not in path and "/stubs/" not in path and not is_compat(path)
        )

    @staticmethod
    def _packages(facts: Facts) -> tuple[str, ...]:
        names = known(facts.host.packages.installed) or {}
        return tuple(sorted(name for name in names if name.startswith(_DRIVER_PACKAGES)))
