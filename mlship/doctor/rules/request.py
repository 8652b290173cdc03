"""Rules about GPUs that were asked for where this host cannot give any: none there, passed on, or not allocated."""

import re

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import line_of, passed_on
from mlship.doctor.rules.base import computes

_FAILS = (
    r"could not select device driver|no known GPU vendor|AMD CDI spec not found|unresolvable CDI devices"
    r"|nvidia-container-cli|unknown or invalid runtime name: nvidia|No devices were found"
    r"|couldn't communicate with the NVIDIA driver|no NVIDIA GPU device is present"
)


def _asked(facts: Facts) -> Evidence | None:
    """A container that asked for a GPU and did not get one, or an error that says so."""
    config = facts.container.host_config
    devices = [name for name in each(config.cdi_devices) if name.startswith("nvidia.com/")]
    if line := line_of(facts, _FAILS):
        return line
    if known(facts.container.error) and each(config.gpus):
        return Evidence("container.host_config.gpus", ", ".join(each(config.gpus)))
    return Evidence("container.host_config.cdi_devices", ", ".join(devices)) if devices else None


@computes("gpu-requested-without-one")
def _other_devices(facts: Facts) -> Values:
    others = sorted({known(one.name) or "a display adapter" for one in each(facts.kernel.pci)})
    return {"asked": _asked(facts), "others": ", ".join(others), "listed": "; ".join(("no NVIDIA GPU", *others))}


@computes("gpu-passed-to-virtual-machines")
def _bound_elsewhere(facts: Facts) -> Values | None:
    given = passed_on(facts)
    if not given:
        return None
    line = (known(facts.kernel.cmdline) or "").split()
    option = next((word for word in line if word.startswith(("vfio-pci.ids", "xen-pciback"))), None)
    return {
        "asked": _asked(facts),
        "address": known(given[0].address) or "ADDRESS",
        "driver": known(given[0].driver) or "",
        "count": len(given),
        "one": len(given) == 1,
        "option": option,
        "removal": commands.remove_option(facts, option) if option else (),
        "bound": tuple(f"{known(gpu.address)}: bound to {known(gpu.driver)}" for gpu in given),
    }


@computes("slurm-job-without-gpu")
def _denied_on_host(facts: Facts) -> Values:
    nodes = known(facts.host.device_nodes) or {}
    denied = sorted(path for path, one in nodes.items() if (there := known(one)) and known(there.open) == "EPERM")
    return {"denied": ", ".join(denied), "first_denied": tuple(denied[:3])}


@computes("gpus-option-needs-quotes")
def _numbers(facts: Facts) -> Values:
    asked = ",".join(each(facts.container.host_config.gpus)).replace("device=", "")
    return {"numbers": asked if re.fullmatch(r"[\w,-]+", asked) and asked != "all" else "0,1"}
