"""Rules about MIG."""

from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence, Finding, Where
from mlship.doctor.queries import places, reported_line, variable
from mlship.doctor.rules.base import Rule, computes
from mlship.driver import codes

_NOT_FOUND = 6
_ONE_SEEN = (
    r"device_count\(\).*\b(one|1)\b|device >= 0 && device < num_gpus|[Ii]nvalid device ordinal|"
    r"\bonly (shows |sees |see |finds )?(one|1) (gpu|GPU|device)"
)
_PATCH = (
    "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge "
    """-p '{"spec": {"driver": {"version": "570.172.08"}}}'"""
)
_FIRST_BROKEN, _LAST_BROKEN = (570, 124, 6), (570, 158, 1)


def _is_on(device: NvmlDevice) -> bool:
    return known(device.mig_current) == 1


def _is_empty(device: NvmlDevice) -> bool:
    """MIG is on, but NVML shows no instance here."""
    codes_of = known(device.codes) or {}
    return _is_on(device) and (
        device.mig_devices == ()
        or (not known(device.mig_devices) and codes_of.get("nvmlDeviceGetMigDeviceHandleByIndex") == _NOT_FOUND)
    )


def _nothing_usable(place: Place) -> bool:
    """Every GPU here is in MIG mode without an instance, and CUDA does not show otherwise."""
    devices = each(place.nvml.devices)
    works = known(place.cuda.init) == 0 and (known(place.cuda.device_count) or 0) > 0
    return bool(devices) and all(_is_empty(device) for device in devices) and not works


def _on_host(facts: Facts) -> list[str]:
    """The host's MIG instances on the GPUs that the container sees."""
    inside = {uuid for device in each(facts.container.nvml.devices) if (uuid := known(device.uuid))}
    return [
        instance
        for device in each(facts.host.nvml.devices)
        if not inside or known(device.uuid) in {*inside, None}
        for instance in each(device.mig_devices)
    ]


def _is_lxc(facts: Facts) -> bool:
    return known(facts.container.lxc) is not None or known(facts.container.engine) == "lxc"


def _evidence(where: Where, place: Place) -> tuple[Evidence | None, ...]:
    code = known(place.cuda.init)
    return (
        *(
            Evidence(f"{where}.nvml.devices", f"GPU {known(device.index)}: MIG is on, 0 instances")
            for device in each(place.nvml.devices)
            if _is_empty(device)
        ),
        Evidence(f"{where}.cuda.init", codes.cuda(code)) if code else None,
    )


class NoInstances(Rule, id="mig-enabled-no-instances"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place in places(facts):
            asked_host = where == "host" or is_known(facts.host.nvml.devices)
            if _nothing_usable(place):
                return self._finding(facts, where, place, certain=asked_host)
        return None

    def _finding(self, facts: Facts, where: Where, place: Place, *, certain: bool) -> Finding:
        first = next((known(device.index) for device in each(place.nvml.devices)), 0)
        here = "on it" if certain else "that this container can see"
        return self.found(
            facts,
            {"here": here, "first": first},
            where=where,
            certain=certain,
            evidence=_evidence(where, place),
        )


def _lacks_instances_in_lxc(facts: Facts) -> bool:
    """An LXC container with a GPU in MIG mode but no instance."""
    if not _is_lxc(facts):
        return False
    if each(facts.container.nvml.devices):
        return _nothing_usable(facts.container)
    lxc = known(facts.container.lxc)
    whole = lxc is not None and known(lxc.gpu_type) == "physical"
    devices = each(facts.host.nvml.devices)
    return whole and bool(devices) and all(map(_is_on, devices)) and bool(known(facts.container.cuda.init))


class PassedWithoutInstances(Rule, id="gpu-passed-lxd-mig-on"):
    def look(self, facts: Facts) -> Finding | None:
        if not self._passed_without(facts):
            return None
        on_host = _on_host(facts)
        caps, uuid = self._caps(facts), on_host[0] if on_host else "MIG-UUID"
        return self.found(
            facts,
            {
                "docker": commands.engine(facts) == "docker",
                "by_device": f"device={uuid}",
                "by_cdi": f"nvidia.com/gpu={uuid}",
                "uuid": uuid,
                "name": known(facts.container.name) or "CONTAINER",
                "tool": self._tool(facts),
                "host_count": len(on_host),
                "on_host_uuids": on_host,
            },
            where="container",
            evidence=(
                *_evidence("container", facts.container),
                caps,
                Evidence("host.nvml.devices", f"{len(on_host)} MIG instances")
                if each(facts.host.nvml.devices)
                else None,
                Evidence("container.engine", known(facts.container.engine) or "lxc"),
            ),
        )

    @staticmethod
    def _passed_without(facts: Facts) -> bool:
        """Under LXC, or under another engine if the host is known to have instances."""
        if _is_lxc(facts):
            return _lacks_instances_in_lxc(facts)
        return bool(_on_host(facts)) and _nothing_usable(facts.container)

    @staticmethod
    def _tool(facts: Facts) -> str | None:
        """The program that manages LXC containers; None under another engine."""
        lxc = known(facts.container.lxc)
        if not _is_lxc(facts):
            return None
        return "incus" if lxc and known(lxc.manager) == "incus" else "lxc"

    @staticmethod
    def _caps(facts: Facts) -> Evidence | None:
        looked = known(facts.container.device_nodes) or {}
        lacks = any(path.startswith("/dev/nvidia-caps") and known(n) is None for path, n in looked.items())
        return Evidence("container.device_nodes", "/dev/nvidia-caps: missing") if lacks else None


@computes("mig-single-instance-per-process")
def _one_of_several(facts: Facts) -> Values | None:
    for where, place in reversed(places(facts)):
        devices = each(place.nvml.devices) or each(facts.host.nvml.devices)
        instances = [uuid for device in devices if _is_on(device) for uuid in each(device.mig_devices)]
        wants = _wants_several(facts, place, where)
        if len(instances) > 1 and known(place.cuda.device_count) == 1 and wants:
            starts = tuple(f"CUDA_VISIBLE_DEVICES={quote(uuid)} PROGRAM &" for uuid in instances[:2])
            return {"where": where, "wants": wants, "starts": starts, "count": len(instances)}
    return None


def _wants_several(facts: Facts, place: Place, where: Where) -> Evidence | None:
    """Evidence that more than one instance is wanted; otherwise one per process is fine."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        value = known(variable(place, name)) or ""
        if value.count("MIG-") > 1:
            return Evidence(f"{where}.env", f"{name}={value}")
    return reported_line(facts, _ONE_SEEN)


@computes("vgpu-driver-regression-570-mig-mixed")
def _mixed(facts: Facts) -> Values:
    cluster = known(facts.kubernetes)
    modes = {known(device.mig_current) == 1 for _, place in places(facts) for device in each(place.nvml.devices)}
    waiting = [str(known(pod.name)) for pod in (each(cluster.pods) if cluster else ()) if known(pod.phase) == "Pending"]
    return {"mixed": modes == {True, False}, "waiting": tuple(waiting[:1])}
