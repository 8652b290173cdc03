"""Rules about device nodes, and about the UVM module behind one of them."""

from mlship.doctor import commands
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import DeviceNode, Place
from mlship.doctor.finding import Evidence, Finding, Where
from mlship.doctor.queries import log_line, node, places
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_CONTROL = "/dev/nvidiactl"


class HmmWithKaslr(Rule, id="uvm-hmm-kaslr"):
    def look(self, facts: Facts) -> Finding | None:
        line = log_line(facts, r"request_free_mem_region\(\) err -34")
        where = next((where for where, place in places(facts) if known(place.cuda.init)), None)
        cmdline = known(facts.kernel.cmdline)
        if line is None or where is None or (cmdline and "nokaslr" in cmdline.split()):
            return None
        code = known((facts.host if where == "host" else facts.container).cuda.init) or 0
        return self.found(
            facts,
            {"option": commands.add_option(facts, "nokaslr")},
            evidence=(
                Evidence("kernel.log", line),
                Evidence(f"{where}.cuda.init", codes.cuda(code)),
                Evidence("kernel.cmdline", "without nokaslr") if cmdline else None,
            ),
        )


class NodePermission(Rule, id="device-node-permission-denied"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place in places(facts):
            control = known(node(place, _CONTROL))
            if control is not None and known(place.nvml.init) == 4 and self._is_shut_out(control, place):
                return self._finding(facts, where, place, control)
        return None

    @staticmethod
    def _is_shut_out(control: DeviceNode, place: Place) -> bool:
        mode, gid, uid = known(control.mode), known(control.gid), known(place.user.uid)
        if mode is None or gid is None or not uid or uid == known(control.uid) or not set(mode) <= set("01234567"):
            return False
        groups = {known(place.user.gid), *each(place.user.groups)}
        return int(mode, 8) & 0o006 != 0o006 and gid not in groups

    def _finding(self, facts: Facts, where: Where, place: Place, control: DeviceNode) -> Finding:
        group = known(control.group) or str(known(control.gid))
        params = known(facts.kernel.nvidia.params) or {}
        return self.found(
            facts,
            {"group": group, "uid": known(place.user.uid)},
            where=where,
            evidence=(
                Evidence(f"{where}.nvml.init", codes.nvml(4)),
                Evidence(f"{where}.device_nodes", f"{_CONTROL}: mode {known(control.mode)}, group {group}"),
                Evidence(f"{where}.user.groups", ", ".join(map(str, each(place.user.groups))) or "unknown"),
                *(
                    Evidence("kernel.nvidia.params", _param(k, params[k]))
                    for k in sorted(params)
                    if k.startswith("DeviceFile")
                ),
            ),
        )


def _param(name: str, value: str) -> str:
    """A mode as in /proc, with its usual octal form: "DeviceFileMode: 432 (0660)"."""
    octal = f" (0{int(value):03o})" if name == "DeviceFileMode" and value.isdecimal() else ""
    return f"{name}: {value}{octal}"
