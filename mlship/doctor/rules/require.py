"""Rules about NVIDIA_REQUIRE_*: what an image requires of the driver, and whether that is checked."""

import re
from dataclasses import dataclass

from mlship.cuda.tables.lookup import architecture_of, offer_of, toolkit_of
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import CDI, environment, has_started, host_driver, injection
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Step
from mlship.doctor.nvidia_require import Offer, Requirement, holds, is_disabled, parse_require, requirements
from mlship.doctor.queries import is_tegra, line_of
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import version_numbers
from mlship.driver import codes

_SAID_UNSATISFIED = r"unsatisfied condition"
_SAID_TOO_OLD = r"driver version is insufficient|NVIDIA driver on your system is too old"


@dataclass(frozen=True)
class Unmet:
    """A requirement that this host does not meet."""

    requirement: Requirement
    driver: str
    cuda: Cuda | None


def _offers(facts: Facts, driver: str) -> tuple[Offer, ...]:
    """What the host offers with each GPU, since all must fit; one unknown GPU if none was examined."""
    version = Driver.parse(driver)
    answer = offer_of(version) if version else None
    cuda, loose = (answer.cuda, answer.at_least) if answer else (None, False)
    seen = {(known(gpu.compute_capability), known(gpu.brand)) for gpu in each(facts.host.nvml.devices)}
    return tuple(Offer(cuda, loose, driver, arch, brand) for arch, brand in seen or {(None, None)})


def _unmet(facts: Facts) -> Unmet | None:
    """The first requirement of the image that certainly fails."""
    driver = host_driver(facts)
    if driver is None or is_tegra(facts):
        return None
    offers = _offers(facts, driver)
    for text in requirements(environment(facts)):
        try:
            requirement = parse_require(text)
        except ValueError:
            continue
        if any(holds(requirement, offer) is False for offer in offers):
            return Unmet(requirement, driver, offers[0].cuda)
    return None


def _evidence(facts: Facts, unmet: Unmet) -> tuple[Evidence, ...]:
    brands = sorted({known(gpu.brand) or "" for gpu in each(facts.host.nvml.devices)} - {""})
    place = "container" if known(facts.container.env) else "image"
    offers = f" (CUDA {unmet.cuda})" if unmet.cuda else ""
    return (
        Evidence(f"{place}.env", f"requires: {unmet.requirement}"),
        Evidence("kernel.nvidia.version", f"{unmet.driver}{offers}"),
        *(Evidence("host.nvml.devices", f"brand {brand}") for brand in brands),
    )


def _newest_branch(facts: Facts) -> int | None:
    """The newest driver branch that still supports every GPU of the host; None if no branch is too new."""
    capabilities = {known(gpu.compute_capability) or "" for gpu in each(facts.host.nvml.devices)}
    kinds = (architecture_of(Capability.parse(one)) for one in capabilities if re.fullmatch(r"[0-9]{1,2}\.[0-9]", one))
    return min((kind.last_branch for kind in kinds if kind and kind.last_branch), default=None)


def _ways_out(facts: Facts, unmet: Unmet) -> tuple[Step, ...]:
    """Suggest a newer driver only if the requirement is about that and one supports this GPU."""
    wanted, has = unmet.requirement.cuda, unmet.cuda
    older = Step(f"Or use an image for CUDA {has} or older." if has else "Or use an older image.", instead=True)
    if wanted is None or (has and has >= wanted):
        return (Step("Use an image that allows this driver and this GPU."),)
    toolkit, newest = toolkit_of(str(wanted)), _newest_branch(facts)
    if newest and toolkit and toolkit.driver and toolkit.driver.branch > newest:
        return (Step(f"Use an image for CUDA {has} or older: R{newest} is the last driver for this GPU."),)
    floor = f" ({toolkit.driver} or newer)" if toolkit and toolkit.driver else ""
    return (Step(f"Update the host's driver to one that supports CUDA {wanted}{floor}."), older)


def _is_minor(unmet: Unmet) -> bool:
    """Only the minor version is newer: most programs run anyway."""
    wanted = unmet.requirement.cuda
    return bool(wanted and unmet.cuda and wanted.major == unmet.cuda.major)


def _shown(facts: Facts, unmet: Unmet | None) -> Values:
    """What is not met, for the texts of both rules."""
    if unmet is None:
        return {"unmet": None, "driver": host_driver(facts)}
    return {
        "unmet": str(unmet.requirement),
        "first": str(unmet.requirement.alternatives[0][0]),
        "driver": unmet.driver,
        "supports": f"CUDA {unmet.cuda}" if unmet.cuda else "less",
        "minor": _is_minor(unmet),
        "shown": _evidence(facts, unmet),
        "fix": _ways_out(facts, unmet),
    }


@computes("require-cuda-unsatisfied")
def _unsatisfied(facts: Facts) -> Values:
    line, unmet, config = line_of(facts, _SAID_UNSATISFIED), _unmet(facts), known(facts.host.toolkit.config)
    values, said = dict(_shown(facts, unmet)), line.value.partition("unsatisfied condition:")[2] if line else ""
    said, driver = said.strip().partition(" ")[0].strip(",.: "), host_driver(facts)
    if unmet and _is_minor(unmet):
        ignore = commands.docker_run(facts, commands.gpu_options(facts), "-e NVIDIA_DISABLE_REQUIRE=1")
        say = "Or, as the CUDA major version is the same, start it without the check:"
        values["fix"] = (*_ways_out(facts, unmet), Step(say, (ignore,), instead=True))
    return {
        **values,
        "line": line,
        "said": said or "another driver",
        "named": said or "the requirement",
        # The legacy hook will reject it; a container that runs was not rejected.
        "ahead": injection(facts) == "legacy" and not has_started(facts),
        "off": is_disabled(environment(facts)) or (config is not None and known(config.disable_require) is True),
        "fits": driver is not None and _fits_by_now(facts, said, driver),
    }


def _fits_by_now(facts: Facts, text: str, driver: str) -> bool:
    try:
        requirement = parse_require(text)
    except ValueError:
        return False
    return all(holds(requirement, offer) for offer in _offers(facts, driver))


@computes("require-not-enforced-cdi")
def _not_enforced(facts: Facts) -> Values | None:
    unmet, how = _unmet(facts), injection(facts)
    if unmet is None or how not in CDI or line_of(facts, _SAID_UNSATISFIED):
        return None
    return {**_shown(facts, unmet), "how": how, "failed": _failure(facts, unmet)}


def _failure(facts: Facts, unmet: Unmet) -> Evidence | None:
    box = facts.container
    if known(box.cuda.runtime_code) == 35:
        return Evidence("container.cuda.runtime_code", codes.cuda(35))
    for torch in (known(python.torch) for python in each(box.pythons)):
        built = version_numbers(known(torch.cuda) or "") if torch else ()
        if torch and known(torch.is_available) is False and unmet.cuda and built[:1] > (unmet.cuda.major,):
            return Evidence("container.pythons", f"torch for CUDA {known(torch.cuda)} sees no GPU")
    return line_of(facts, _SAID_TOO_OLD)
