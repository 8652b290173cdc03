"""Rules about NVIDIA_REQUIRE_*: what an image requires of the driver, and whether that is checked."""

import re
from dataclasses import dataclass
from shlex import quote

from mlship.cuda.tables.lookup import architecture_of, offer_of, toolkit_of
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.doctor import commands
from mlship.doctor.container import CDI, environment, has_started, host_driver, injection, works
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Evidence, Finding, Step
from mlship.doctor.nvidia_require import Offer, Requirement, holds, is_disabled, parse_require, requirements
from mlship.doctor.queries import is_tegra, line_of
from mlship.doctor.rules.base import Rule
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


class RequireUnsatisfied(Rule, id="require-cuda-unsatisfied"):
    def look(self, facts: Facts) -> Finding | None:
        line, unmet = line_of(facts, _SAID_UNSATISFIED), _unmet(facts)
        if works(facts) or (line is None and not self._is_ahead(facts)) or self._is_off(facts):
            return None
        if unmet is None:
            return self._only_said(facts, line) if line else None
        ignore = commands.docker_run(facts, commands.gpu_options(facts), "-e NVIDIA_DISABLE_REQUIRE=1")
        return self.found(
            facts,
            where="container",
            cause=f"The image requires {unmet.requirement.alternatives[0][0]}, but this host's driver {unmet.driver} "
            f"supports {f'CUDA {unmet.cuda}' if unmet.cuda else 'less'}; the host meets no other alternative either.",
            fix=(
                *_ways_out(facts, unmet),
                *(
                    (
                        Step(
                            "Or, as the CUDA major version is the same, start it without the check:",
                            (ignore,),
                            instead=True,
                        ),
                    )
                    if _is_minor(unmet)
                    else ()
                ),
            ),
            evidence=(*_evidence(facts, unmet), line),
        )

    @staticmethod
    def _is_ahead(facts: Facts) -> bool:
        """The legacy hook will reject it; a container that runs was not rejected."""
        return injection(facts) == "legacy" and not has_started(facts)

    @staticmethod
    def _is_off(facts: Facts) -> bool:
        config = known(facts.host.toolkit.config)
        return is_disabled(environment(facts)) or (config is not None and known(config.disable_require) is True)

    def _only_said(self, facts: Facts, line: Evidence) -> Finding | None:
        """The engine reported it, but the driver or the requirement is unknown, or it fits now."""
        text = line.value.partition("unsatisfied condition:")[2].strip().partition(" ")[0].strip(",.: ")
        driver = host_driver(facts)
        if driver is not None and self._fits_by_now(facts, text, driver):
            return None
        return self.found(
            facts,
            where="container",
            certain=False,
            cause=f"The image requires {text or 'another driver'}, which this host does not meet, the engine reported.",
            fix=(
                Step(f"Update the host's driver to one that meets {text or 'the requirement'}."),
                Step("Or use an image for an older CUDA version.", instead=True),
            ),
            evidence=(line, Evidence("kernel.nvidia.version", driver) if driver else None),
            decides=(
                Decider("kernel.nvidia.version", "cat /proc/driver/nvidia/version"),
                Decider("image.env", f"docker image inspect {quote(known(facts.image.reference) or 'IMAGE')}"),
            ),
        )

    @staticmethod
    def _fits_by_now(facts: Facts, text: str, driver: str) -> bool:
        try:
            requirement = parse_require(text)
        except ValueError:
            return False
        return all(holds(requirement, offer) for offer in _offers(facts, driver))


class RequireNotEnforced(Rule, id="require-not-enforced-cdi"):
    def look(self, facts: Facts) -> Finding | None:
        unmet, box = _unmet(facts), facts.container
        if unmet is None or injection(facts) not in CDI or line_of(facts, _SAID_UNSATISFIED):
            return None
        if is_absent(box.cuda.library) or known(box.cuda.driver_version) == 0 or (known(box.cuda.init) or 0) > 0:
            return None
        failed = self._failure(facts, unmet)
        if failed is None and (works(facts) or _is_minor(unmet)):
            return None
        return self.found(
            facts,
            where="container",
            certain=bool(failed),
            cause=f"The image requires {unmet.requirement}, but driver {unmet.driver} supports "
            f"{f'CUDA {unmet.cuda}' if unmet.cuda else 'less'}, and CDI does not check that at start.",
            fix=_ways_out(facts, unmet),
            evidence=(*_evidence(facts, unmet), Evidence("container.injection", injection(facts) or ""), failed),
        )

    @staticmethod
    def _failure(facts: Facts, unmet: Unmet) -> Evidence | None:
        box = facts.container
        if known(box.cuda.runtime_code) == 35:
            return Evidence("container.cuda.runtime_code", codes.cuda(35))
        for torch in (known(python.torch) for python in each(box.pythons)):
            built = version_numbers(known(torch.cuda) or "") if torch else ()
            if torch and known(torch.is_available) is False and unmet.cuda and built[:1] > (unmet.cuda.major,):
                return Evidence("container.pythons", f"torch for CUDA {known(torch.cuda)} sees no GPU")
        return line_of(facts, _SAID_TOO_OLD)
