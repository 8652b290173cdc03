"""Rules about GPUs that were asked for where this host cannot give any: none there, passed on, or not allocated."""

import re

from mlship.doctor import commands
from mlship.doctor.container import works
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import gpu_is_known_absent, gpus, is_wsl, line_of, passed_on, variable
from mlship.doctor.rules.base import Rule

_FAILS = (
    r"could not select device driver|no known GPU vendor|AMD CDI spec not found|unresolvable CDI devices"
    r"|nvidia-container-cli|unknown or invalid runtime name: nvidia|No devices were found"
    r"|couldn't communicate with the NVIDIA driver|no NVIDIA GPU device is present"
)
_SLURM = ("SLURM_JOB_ID", "SLURM_JOBID")


def _asked(facts: Facts) -> Evidence | None:
    """A container that asked for a GPU and did not get one, or an error that says so."""
    config = facts.container.host_config
    devices = [name for name in each(config.cdi_devices) if name.startswith("nvidia.com/")]
    if line := line_of(facts, _FAILS):
        return line
    if known(facts.container.error) and each(config.gpus):
        return Evidence("container.host_config.gpus", ", ".join(each(config.gpus)))
    return Evidence("container.host_config.cdi_devices", ", ".join(devices)) if devices else None


class NoGpuToGive(Rule, id="gpu-requested-without-one"):
    def look(self, facts: Facts) -> Finding | None:
        asked = _asked(facts)
        if asked is None or not gpu_is_known_absent(facts) or passed_on(facts) or is_wsl(facts):
            return None
        others = sorted({known(one.name) or "a display adapter" for one in each(facts.kernel.pci)})
        return self.found(
            facts,
            {"others": ", ".join(others), "virtual": known(facts.host.virtualization) not in {None, "none"}},
            evidence=(
                Evidence("kernel.pci", "; ".join(("no NVIDIA GPU", *others))),
                asked,
            ),
        )


class PassedToMachines(Rule, id="gpu-passed-to-virtual-machines"):
    def look(self, facts: Facts) -> Finding | None:
        given, asked = passed_on(facts), _asked(facts)
        if not given or gpus(facts) or asked is None:
            return None
        address, driver = known(given[0].address) or "ADDRESS", known(given[0].driver) or ""
        line = (known(facts.kernel.cmdline) or "").split()
        option = next((word for word in line if word.startswith(("vfio-pci.ids", "xen-pciback"))), None)
        return self.found(
            facts,
            {
                "address": address,
                "driver": driver,
                "count": len(given),
                "one": len(given) == 1,
                "option": option,
                "removal": commands.remove_option(facts, option) if option else (),
            },
            evidence=(
                *(Evidence("kernel.pci", f"{known(gpu.address)}: bound to {known(gpu.driver)}") for gpu in given),
                asked,
            ),
        )


class SlurmWithoutGpu(Rule, id="slurm-job-without-gpu"):
    def look(self, facts: Facts) -> Finding | None:
        job = next((known(variable(facts.host, name)) for name in _SLURM if known(variable(facts.host, name))), None)
        nodes = known(facts.host.device_nodes) or {}
        denied = sorted(path for path, one in nodes.items() if (there := known(one)) and known(there.open) == "EPERM")
        if job is None or not denied or works(facts) or known(facts.host.cuda.init) == 0:
            return None
        given = known(variable(facts.host, "SLURM_JOB_GPUS")) or known(variable(facts.host, "SLURM_STEP_GPUS"))
        asked = is_absent(variable(facts.host, "SLURM_JOB_GPUS")) and is_absent(variable(facts.host, "SLURM_STEP_GPUS"))
        return self.found(
            facts,
            {"job": job, "given": given, "denied": ", ".join(denied)},
            certain=asked,
            evidence=(
                Evidence("host.env", f"SLURM_JOB_ID={job}"),
                Evidence("host.env", "SLURM_JOB_GPUS: not set") if asked else None,
                *(Evidence("host.device_nodes", f"{path}: opening it is denied (EPERM)") for path in denied[:3]),
            ),
        )


class GpusOptionQuoting(Rule, id="gpus-option-needs-quotes"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, r"cannot set both Count and DeviceIDs|invalid value for --gpus|invalid argument .*--gpus")
        if line is None:
            return None
        asked = ",".join(each(facts.container.host_config.gpus)).replace("device=", "")
        numbers = asked if re.fullmatch(r"[\w,-]+", asked) and asked != "all" else "0,1"
        return self.found(facts, {"numbers": numbers}, where="container", evidence=(line,))
