"""Rules about device nodes and who may open them, and about the module behind one of them."""

import re
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import DeviceNode, Place
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import node, places
from mlship.doctor.rules.base import computes
from mlship.driver import codes

# The start of a node's path that is a name in /proc/devices. Old kernels call "nvidia" "nvidia-frontend".
_MAJOR = re.compile(
    r"/dev/(nvidia-uvm|nvidia-caps-imex-channels(?=/)|nvidia-caps(?=/)|nvidia-nvswitch|nvidia(?=ctl|\d))"
)


def _fails(where: Where, place: Place) -> Evidence | None:
    """The call that fails here."""
    calls = (("cuda.init", known(place.cuda.init), codes.cuda), ("nvml.init", known(place.nvml.init), codes.nvml))
    return next((Evidence(f"{where}.{name}", say(code)) for name, code, say in calls if code), None)


def _nodes(place: Place) -> tuple[tuple[str, DeviceNode], ...]:
    """NVIDIA's existing nodes, sorted."""
    table = known(place.device_nodes) or {}
    return tuple(
        (path, one)
        for path in sorted(table)
        if path.startswith("/dev/nvidia") and (one := known(table[path])) is not None
    )


@computes("device-cgroup-denies-node")
def _denied_by_cgroup(facts: Facts) -> Values:
    box = facts.container
    denied = [(path, one) for path, one in _nodes(box) if known(one.open) == "EPERM"]
    majors = sorted({major for _, one in denied if (major := known(one.major)) is not None})
    rules = tuple(f"# lxc.cgroup2.devices.allow: c {major}:* rwm" for major in majors)
    return {
        "failing": _fails("container", box),
        "rules": rules or ("grep nvidia /proc/devices",),
        "options": " ".join(f"--device {quote(path)}" for path, _ in denied),
        "denied": ", ".join(path for path, _ in denied),
        "paths": tuple(path for path, _ in denied),
    }


@computes("device-node-of-another-major")
def _other_major(facts: Facts) -> Values | None:
    found = ((where, place, _wrong_majors(facts, place), _fails(where, place)) for where, place in places(facts))
    for where, _, wrong, failing in found:
        if wrong and failing:
            listed = (f"{path} has major number {has}, but the driver has {wants}" for path, has, wants in wrong)
            return {
                "where": where,
                "failing": failing,
                "wrong": wrong[0][0],
                "quote": quote(wrong[0][0])[1:],
                "listed": "; ".join(listed),
                "shown": (
                    *(Evidence(f"{where}.device_nodes", f"{path}: major {has}") for path, has, _ in wrong),
                    *(Evidence("kernel.proc_devices", f"{wants} for {path}") for path, _, wants in wrong),
                ),
            }
    return None


def _wrong_majors(facts: Facts, place: Place) -> tuple[tuple[str, int, int], ...]:
    majors, found = known(facts.kernel.proc_devices) or {}, []
    for path, one in _nodes(place):
        name = found_name[1] if (found_name := _MAJOR.match(path)) else ""
        old, has = majors.get("nvidia-frontend") if name == "nvidia" else None, known(one.major)
        wants = majors.get(name, old)
        if wants is not None and has is not None and wants != has and not path.endswith("-tools"):  # CUDA needs none
            found.append((path, has, wants))
    return tuple(found)


@computes("selinux-denies-device-nodes")
def _denied_by_selinux(facts: Facts) -> Values:
    box, selinux = facts.container, known(facts.host.selinux)
    denials = [line for line in (each(selinux.denials) if selinux else ()) if "nvidia" in line and "denied" in line]
    shut = [path for path, one in _nodes(box) if known(one.open) == "EACCES" and (known(one.mode) or "")[-1:] == "6"]
    return {
        "failing": _fails("container", box),
        "denials": bool(denials),
        "last_denial": tuple(denials[-1:]),
        "refused": tuple(shut[:2]),
    }


@computes("uvm-hmm-kaslr")
def _does_not_start(facts: Facts) -> Values | None:
    found = next(((where, code) for where, place in places(facts) if (code := known(place.cuda.init))), None)
    if found is None:
        return None
    return {
        "failed": Evidence(f"{found[0]}.cuda.init", codes.cuda(found[1])),
        "option": commands.add_option(facts, "nokaslr"),
    }


@computes("device-node-permission-denied")
def _shut_out(facts: Facts) -> Values | None:
    params = known(facts.kernel.nvidia.params) or {}
    for where, place in places(facts):
        control = known(node(place, "/dev/nvidiactl"))
        if control is not None and known(place.nvml.init) == 4 and _is_shut_out(control, place):
            return {
                "where": where,
                "group": known(control.group) or str(known(control.gid)),
                "uid": known(place.user.uid),
                "mode": known(control.mode),
                "group_may": int(known(control.mode) or "0", 8) & 0o060 == 0o060,
                "groups": ", ".join(map(str, each(place.user.groups))) or "unknown",
                "params": tuple(_param(key, params[key]) for key in sorted(params) if key.startswith("DeviceFile")),
            }
    return None


def _is_shut_out(control: DeviceNode, place: Place) -> bool:
    mode, gid, uid = known(control.mode), known(control.gid), known(place.user.uid)
    if mode is None or gid is None or not uid or uid == known(control.uid) or not re.fullmatch("[0-7]+", mode):
        return False
    groups = {known(place.user.gid), *each(place.user.groups)}
    return int(mode, 8) & 0o006 != 0o006 and (int(mode, 8) & 0o060 != 0o060 or gid not in groups)


def _param(name: str, value: str) -> str:
    """A mode as in /proc, with its usual octal form: "DeviceFileMode: 432 (0660)"."""
    octal = f" (0{int(value):03o})" if name == "DeviceFileMode" and value.isdecimal() else ""
    return f"{name}: {value}{octal}"
