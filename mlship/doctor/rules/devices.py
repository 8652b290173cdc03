"""Rules about device nodes, and about the UVM module behind one of them."""

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import DeviceNode, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import node, places
from mlship.doctor.rules.base import computes
from mlship.driver import codes


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
                "groups": ", ".join(map(str, each(place.user.groups))) or "unknown",
                "params": tuple(_param(key, params[key]) for key in sorted(params) if key.startswith("DeviceFile")),
            }
    return None


def _is_shut_out(control: DeviceNode, place: Place) -> bool:
    mode, gid, uid = known(control.mode), known(control.gid), known(place.user.uid)
    if mode is None or gid is None or not uid or uid == known(control.uid) or not set(mode) <= set("01234567"):
        return False
    groups = {known(place.user.gid), *each(place.user.groups)}
    return int(mode, 8) & 0o006 != 0o006 and gid not in groups


def _param(name: str, value: str) -> str:
    """A mode as in /proc, with its usual octal form: "DeviceFileMode: 432 (0660)"."""
    octal = f" (0{int(value):03o})" if name == "DeviceFileMode" and value.isdecimal() else ""
    return f"{name}: {value}{octal}"
