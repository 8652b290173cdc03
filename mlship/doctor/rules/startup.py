"""Rules about a GPU that does not start although its driver is loaded, and about what it lost in sleep."""

from mlship.doctor.facts.fact import is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import cuda_codes, gpus, is_wsl, kernel_driver, log_line, node, variable
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_NO_START = r"(?i)RmInitAdapter failed|rm_init_adapter failed|probe with driver nvidia failed with error -1\b"
_NO_FIRMWARE = r"(?i)(firmware|gsp)[^ ]*.*(not found|failed to load|error -2|mismatch|no such file)|gsp_.*\.bin.*fail"
_VGPU_DIFFERS = r"(?i)vgpu.*(version|mismatch|incompatible|not supported)"
_NO_WINDOW = r"BAR ?\d[^:]* is 0M|BAR \d.*(no space|can't assign|failed to assign)|I/O region assigned .* is invalid"
_SLEPT = r"PM: (suspend|hibernation|resume)|suspend exit|Waking up from system sleep"
_KEEP_MEMORY = (
    "echo 'options nvidia NVreg_PreserveVideoMemoryAllocations=1' | sudo tee /etc/modprobe.d/nvidia-sleep.conf"
)
_PIPES = "/tmp/nvidia-mps"  # noqa: S108  the daemon's default
_MPS = {805, 806, 807, 808, 809, 810}


def _counts_all(facts: Facts) -> bool | None:
    """NVML on the host counts every GPU on the bus; None if that is unknown."""
    nvml, code = facts.host.nvml, known(facts.host.nvml.init)
    count = known(nvml.device_count)
    if count is None:
        return None if code in {None, 0, 12, 18} else False
    return count >= len(gpus(facts)) > 0


class NoAddressWindow(Rule, id="pci-window-not-assigned"):
    def look(self, facts: Facts) -> Finding | None:
        line = log_line(facts, _NO_WINDOW)
        if line is None or _counts_all(facts) is not False or not gpus(facts):
            return None
        return self.found(
            facts,
            evidence=(Evidence("kernel.log", line),),
        )


class DoesNotInitialise(Rule, id="gpu-does-not-initialise"):
    def look(self, facts: Facts) -> Finding | None:
        line = log_line(facts, _NO_START)
        if line is None or _counts_all(facts) is not False or not gpus(facts):
            return None
        firmware, virtual = log_line(facts, _NO_FIRMWARE), log_line(facts, _VGPU_DIFFERS)
        shown = (virtual, line) if virtual else (line, firmware)
        return self.found(
            facts,
            {
                "vgpu": virtual,
                "firmware": firmware,
                "why": ": its firmware file is missing or has another version" if firmware else "",
                "version": kernel_driver(facts) or "in this guest",
                "driver": kernel_driver(facts) or "VERSION",
            },
            evidence=tuple(Evidence("kernel.log", one) for one in shown if one),
        )


class LostInSleep(Rule, id="uvm-lost-after-suspend"):
    def look(self, facts: Facts) -> Finding | None:
        line = log_line(facts, _SLEPT)
        if line is None or known(facts.host.cuda.init) != 999 or known(facts.host.nvml.init) != 0 or is_wsl(facts):
            return None
        if is_absent(node(facts.host, "/dev/nvidia-uvm")) or log_line(facts, r"request_free_mem_region"):
            return None
        return self.found(
            facts,
            evidence=(
                Evidence("kernel.log", line),
                Evidence("host.cuda.init", codes.cuda(999)),
                Evidence("host.nvml.init", codes.nvml(0)),
            ),
        )


class MpsNotReached(Rule, id="mps-not-reached"):
    def look(self, facts: Facts) -> Finding | None:
        found = next(((name, code) for name, code in cuda_codes(facts) if code in _MPS), None)
        if found is None:
            return None
        name, code = found
        inside = name.startswith("container")
        folder = known(variable(facts.container if inside else facts.host, "CUDA_MPS_PIPE_DIRECTORY"))
        runs = known(facts.host.mps)
        return self.found(
            facts,
            {
                "runs": runs,
                "stopped": runs is False,
                "code": codes.cuda(code),
                "volume": f"{_PIPES}:{folder or _PIPES}",
            },
            where="container" if inside else "host",
            evidence=(
                Evidence(name, codes.cuda(code)),
                Evidence("host.mps", "running" if runs else "not running") if runs is not None else None,
                Evidence("env.CUDA_MPS_PIPE_DIRECTORY", folder) if folder else None,
            ),
        )
