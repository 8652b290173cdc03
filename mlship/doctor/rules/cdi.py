"""Rules of CDI: specifications that are stale, that nobody finds, or that give less than the legacy hook did."""

from shlex import quote

from mlship.doctor import commands
from mlship.doctor.asked import CDI, at_least, has_started, host_driver, injection, is_ok, said, works
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.toolkit import CdiSpec
from mlship.doctor.finding import Decider, Evidence, Finding, Step
from mlship.doctor.resolve import folder, why_unresolved
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import same
from mlship.doctor.views import node
from mlship.driver import codes

_MISSING_FILE = r"(?i)(stat|mount|crun|runc).*no such file or directory"
_UNRESOLVABLE = r"unresolvable CDI devices|could not select device driver .cdi."


def _is_current(facts: Facts, spec: CdiSpec) -> bool | None:
    """It names the driver's libraries of now, and all that it names exists; None where nobody can tell."""
    libraries = (known(place.library) for place in (facts.host.nvml, facts.host.cuda))
    on_disk = next((known(library.version) for library in libraries if library), None) or host_driver(facts)
    versions, missing = known(spec.driver_versions), known(spec.missing)
    if missing and (known(facts.host.nvml.init) == 0 or any(not path.startswith("/dev/") for path in missing)):
        return False
    if versions and on_disk:
        return any(same(version, on_disk) for version in versions)
    return True if missing == () else None


def _is_shadowed(facts: Facts, spec: CdiSpec) -> bool:
    """/var/run/cdi goes before /etc/cdi: a current specification there takes over what this one defines."""
    if folder(spec.path) != "/etc/cdi":
        return False
    above = [other for other in each(facts.host.cdi.specs) if folder(other.path) == "/var/run/cdi"]
    names = {name for other in above if _is_current(facts, other) for name in each(other.devices)}
    return bool(names) and set(each(spec.devices)) <= names


class StaleSpec(Rule):
    id = "cdi-spec-stale-after-driver-upgrade"

    def look(self, facts: Facts) -> Finding | None:
        if works(facts) or not self._is_used(facts):
            return None
        stale = [
            spec
            for spec in each(facts.host.cdi.specs)
            if (known(spec.kind) or "").startswith("nvidia.com/")
            and _is_current(facts, spec) is False
            and not _is_shadowed(facts, spec)
        ]
        return self._finding(facts, stale[0]) if stale else None

    @staticmethod
    def _is_used(facts: Facts) -> bool:
        """By the container in question, or by what stands ready to use it."""
        how = injection(facts)
        if how == "cdi" or said(facts, _MISSING_FILE):
            return True
        engines = known(facts.host.podman) is not None or known(facts.host.docker.cdi) is True
        return engines and known(facts.container.status) is None and known(facts.container.injection) is None

    def _finding(self, facts: Facts, spec: CdiSpec) -> Finding:
        driver, named = host_driver(facts), ", ".join(known(spec.driver_versions) or ())
        missing = known(spec.missing) or ()
        gone = f"{len(missing)} of the files that it names do not exist" if missing else ""
        return self.found(
            cause=f"{spec.path} is for driver {named or 'files of another version'}; the host has {driver or 'another'}"
            f"{f', and {gone}' if gone else ''}.",
            fix=(self._fix(facts, spec), Step("Make the container anew; mounts are given to it when it is made.")),
            evidence=(
                Evidence("host.cdi.specs", f"{spec.path}: driver {named or 'not told'}"),
                Evidence("kernel.nvidia.version", driver) if driver else None,
                *(Evidence("host.cdi.specs", f"{spec.path}: {path} does not exist") for path in missing[:3]),
                said(facts, _MISSING_FILE),
            ),
        )

    @staticmethod
    def _fix(facts: Facts, spec: CdiSpec) -> Step:
        service = known(looked_up(facts.host.services, "nvidia-cdi-refresh"))
        if service is None:
            return Step("Write it anew:", (f"sudo nvidia-ctk cdi generate --output={quote(spec.path)}",))
        if folder(spec.path) == "/etc/cdi":
            return Step(
                "Remove the one that was made by hand; the refresh service keeps its own:",
                (f"sudo rm {quote(spec.path)}", commands.refresh_cdi(facts)),
            )
        return Step("Have the refresh service write it anew, and see why it did not:", (commands.refresh_cdi(facts),))


class UnresolvableDevice(Rule):
    id = "cdi-device-unresolvable"

    def look(self, facts: Facts) -> Finding | None:
        line = said(facts, _UNRESOLVABLE)
        if works(facts) or not is_ok(facts.host.nvml.init) or (has_started(facts) and line is None):
            return None
        specs = known(facts.host.cdi.specs)
        wanted = self._wanted(facts, line)
        if specs is None or not wanted:
            return None
        found = why_unresolved(facts, specs, wanted)
        if found is None:
            return None
        why, fix = found
        return self.found(
            where="container",
            cause=f"{wanted} cannot be resolved: {why}.",
            fix=fix,
            evidence=(
                Evidence("container.host_config.cdi_devices", wanted),
                *(Evidence("host.cdi.specs", f"{spec.path}: {', '.join(each(spec.devices))}") for spec in specs),
                None if specs else Evidence("host.cdi.specs", "none"),
                line,
            ),
        )

    @staticmethod
    def _wanted(facts: Facts, line: Evidence | None) -> str | None:
        asked = [name for name in each(facts.container.host_config.cdi_devices) if name.startswith("nvidia.com/")]
        named = [word for word in line.value.replace(",", " ").split() if ".com/gpu=" in word] if line else []
        return next(iter((*asked, *named)), None)


class LegacyToCdi(Rule):
    id = "ctk-1-18-legacy-to-cdi-regression"

    def look(self, facts: Facts) -> Finding | None:
        box = facts.container
        if known(box.cuda.init) != 999 or not is_ok(box.nvml.init) or not is_ok(facts.host.cuda.init):
            return None
        uvm = node(box, "/dev/nvidia-uvm")
        shut = known(uvm)
        if is_absent(uvm) or (shut and known(shut.open) not in {"ok", None}) or injection(facts) not in CDI:
            return None
        toolkit, docker = facts.host.toolkit.version, facts.host.docker.version
        if not (at_least(toolkit, (1, 18)) or at_least(docker, (29, 2))):
            return None
        legacy = "sudo nvidia-ctk config --in-place --set nvidia-container-runtime.mode=legacy"
        old = commands.run(facts, "--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all")
        missing = [path for path in ("/dev/nvidia-modeset", "/dev/nvidia-uvm-tools") if is_absent(node(box, path))]
        return self.found(
            where="container",
            certainty="likely",
            cause=f"NVML works in the container and CUDA does not, and the GPU came by {injection(facts)} "
            f"(toolkit {known(toolkit) or 'not known'}, Docker {known(docker) or 'not known'}).",
            fix=(
                Step(
                    "Make all control nodes, write the specification anew:",
                    (
                        "sudo nvidia-ctk system create-device-nodes --control-devices --load-kernel-modules",
                        commands.refresh_cdi(facts),
                    ),
                ),
                Step("If that does not help, go back to the legacy hook:", (legacy, old)),
            ),
            evidence=(
                Evidence("container.cuda.init", codes.cuda(999)),
                Evidence("container.nvml.init", codes.nvml(0)) if known(box.nvml.init) == 0 else None,
                Evidence("host.cuda.init", codes.cuda(0)) if known(facts.host.cuda.init) == 0 else None,
                Evidence("host.toolkit.version", known(toolkit) or "") if known(toolkit) else None,
                *(Evidence("container.device_nodes", f"{path}: not there") for path in missing),
            ),
            decides=(Decider("container.cuda.init in legacy mode", f"{legacy} && {old}"),),
        )


RULES: tuple[Rule, ...] = (StaleSpec(), UnresolvableDevice(), LegacyToCdi())
