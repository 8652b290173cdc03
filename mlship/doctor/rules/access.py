"""Rules about device nodes that exist but cannot be used: denied by a cgroup or SELinux, or outdated."""

from shlex import quote

from mlship.doctor.container import works
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import DeviceNode, Place
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import is_wsl, places
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

# Names in /proc/devices, by the prefix of the node's path; the first match counts.
_MAJORS = (
    ("/dev/nvidia-uvm", ("nvidia-uvm",)),
    ("/dev/nvidia-caps-imex-channels/", ("nvidia-caps-imex-channels",)),
    ("/dev/nvidia-caps/", ("nvidia-caps",)),
    ("/dev/nvidia-nvswitch", ("nvidia-nvswitch",)),
    ("/dev/nvidiactl", ("nvidia", "nvidia-frontend")),
    *((f"/dev/nvidia{digit}", ("nvidia", "nvidia-frontend")) for digit in range(10)),
)


def _fails(place: Place) -> tuple[str, str] | None:
    """The call that fails here, and its code in words."""
    for name, code, say in (
        ("cuda.init", known(place.cuda.init), codes.cuda),
        ("nvml.init", known(place.nvml.init), codes.nvml),
    ):
        if code:
            return name, say(code)
    return None


def _nodes(place: Place) -> tuple[tuple[str, DeviceNode], ...]:
    """NVIDIA's existing nodes, sorted."""
    table = known(place.device_nodes) or {}
    return tuple(
        (path, one)
        for path in sorted(table)
        if path.startswith("/dev/nvidia") and (one := known(table[path])) is not None
    )


class DeniedByCgroup(Rule, id="device-cgroup-denies-node"):
    def look(self, facts: Facts) -> Finding | None:
        box, failing = facts.container, _fails(facts.container)
        denied = [(path, one) for path, one in _nodes(box) if known(one.open) == "EPERM"]
        if not denied or failing is None or works(facts) or known(facts.host.nvml.init) != 0:
            return None
        name, code = failing
        majors = sorted({major for _, one in denied if (major := known(one.major)) is not None})
        rules = tuple(f"# lxc.cgroup2.devices.allow: c {major}:* rwm" for major in majors)
        by_hand = known(box.nvml.init) == 0 or known(box.engine) == "lxc" or bool(each(box.host_config.devices))
        return self.found(
            facts,
            {
                "lxc": known(box.engine) == "lxc" or known(box.lxc) is not None,
                "rules": rules or ("grep nvidia /proc/devices",),
                "options": " ".join(f"--device {quote(path)}" for path, _ in denied),
                "denied": ", ".join((path for path, _ in denied)),
            },
            where="container",
            certain=by_hand,
            evidence=(
                Evidence(f"container.{name}", code),
                *(Evidence("container.device_nodes", f"{path}: EPERM") for path, _ in denied),
                Evidence("container.engine", engine) if (engine := known(box.engine)) else None,
            ),
        )


class OtherMajor(Rule, id="device-node-of-another-major"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place in places(facts):
            failing = _fails(place)
            wrong = self._wrong(facts, place)
            if not wrong or failing is None or is_wsl(facts):
                continue
            return self.found(
                facts,
                {
                    "wrong": wrong[0][0],
                    "engine_lxc": known(facts.container.engine) == "lxc" or known(facts.container.lxc) is not None,
                    "quote": quote(wrong[0][0])[1:],
                },
                where=where,
                cause="; ".join(
                    f"{path} has major number {has}, but the driver has {wants}" for path, has, wants in wrong
                )
                + ".",
                evidence=(
                    Evidence(f"{where}.{failing[0]}", failing[1]),
                    *(Evidence(f"{where}.device_nodes", f"{path}: major {has}") for path, has, _ in wrong),
                    *(Evidence("kernel.proc_devices", f"{wants} for {path}") for path, _, wants in wrong),
                ),
            )
        return None

    @staticmethod
    def _wrong(facts: Facts, place: Place) -> tuple[tuple[str, int, int], ...]:
        majors, found = known(facts.kernel.proc_devices) or {}, []
        for path, one in _nodes(place):
            names = next((names for start, names in _MAJORS if path.startswith(start)), ())
            wants, has = next((majors[name] for name in names if name in majors), None), known(one.major)
            if wants is not None and has is not None and wants != has:
                found.append((path, has, wants))
        return tuple(found)


class SelinuxDenies(Rule, id="selinux-denies-device-nodes"):
    def look(self, facts: Facts) -> Finding | None:
        selinux, box, failing = known(facts.host.selinux), facts.container, _fails(facts.container)
        if selinux is None or known(selinux.mode) != "Enforcing" or failing is None or works(facts):
            return None
        disabled = any("label" in option and "disable" in option for option in each(box.host_config.security_opt))
        if disabled or known(box.host_config.privileged) or known(facts.host.nvml.init) not in {0, None}:
            return None
        denials = [line for line in each(selinux.denials) if "nvidia" in line and "denied" in line]
        refused = [
            path for path, one in _nodes(box) if known(one.open) == "EACCES" and (known(one.mode) or "")[-1:] == "6"
        ]
        off = (known(selinux.booleans) or {}).get("container_use_devices") is False
        if not denials and not (refused and off):
            return None
        certain = bool(denials and refused) or bool(denials and off)
        return self.found(
            facts,
            where="container",
            certain=certain,
            evidence=(
                Evidence(f"container.{failing[0]}", failing[1]),
                Evidence("host.selinux.mode", "Enforcing"),
                Evidence("host.selinux.booleans", "container_use_devices: off") if off else None,
                *(Evidence("host.selinux.denials", line) for line in denials[-1:]),
                *(Evidence("container.device_nodes", f"{path}: EACCES") for path in refused[:2]),
            ),
        )
