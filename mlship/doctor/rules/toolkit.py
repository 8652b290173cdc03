"""A rule about CDI specifications."""

from mlship.doctor import commands
from mlship.doctor.facts.fact import is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding, Step
from mlship.doctor.queries import node, spec_without_uvm
from mlship.doctor.rules.base import Rule
from mlship.driver import codes


class CdiWithoutUvm(Rule):
    id = "cdi-spec-without-uvm"

    def look(self, facts: Facts) -> Finding | None:
        spec = spec_without_uvm(facts)
        if spec is None or known(facts.container.cuda.init) == 0:
            return None
        code = known(facts.container.cuda.init)
        absent = is_absent(node(facts.container, "/dev/nvidia-uvm"))
        return self.found(
            where="container",
            cause=f"{spec} gives containers the GPU without /dev/nvidia-uvm, which the host has now.",
            fix=(
                Step(
                    "Create the control nodes, then regenerate the specification:",
                    (
                        "sudo nvidia-ctk system create-device-nodes --control-devices --load-kernel-modules",
                        commands.refresh_cdi(facts),
                    ),
                ),
                Step("Recreate the container: it gets its nodes when it is created."),
            ),
            evidence=(
                Evidence("host.device_nodes", "/dev/nvidia-uvm: present"),
                Evidence("host.cdi.specs", f"{spec}: lists no /dev/nvidia-uvm"),
                Evidence("container.device_nodes", "/dev/nvidia-uvm: missing") if absent else None,
                Evidence("container.cuda.init", codes.cuda(code)) if code else None,
            ),
        )


RULES: tuple[Rule, ...] = (CdiWithoutUvm(),)
