"""Rules about a GPU that does not start although its driver is loaded, and about what it lost in sleep."""

from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import cuda_codes, variable
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_PIPES = "/tmp/nvidia-mps"  # noqa: S108  the daemon's default
_MPS = {805, 806, 807, 808, 809, 810}


class MpsNotReached(Rule, id="mps-not-reached"):
    def look(self, facts: Facts) -> Finding | None:
        found = next(((name, code) for name, code in cuda_codes(facts) if code in _MPS), None)
        if found is None:
            return None
        name, code = found
        inside = name.startswith("container")
        folder = known(variable(facts.container if inside else facts.host, "CUDA_MPS_PIPE_DIRECTORY"))
        runs = known(facts.host.mps)
        return self.found(
            facts,
            {
                "runs": runs,
                "stopped": runs is False,
                "code": codes.cuda(code),
                "volume": f"{_PIPES}:{folder or _PIPES}",
            },
            where="container" if inside else "host",
            evidence=(
                Evidence(name, codes.cuda(code)),
                Evidence("host.mps", "running" if runs else "not running") if runs is not None else None,
                Evidence("env.CUDA_MPS_PIPE_DIRECTORY", folder) if folder else None,
            ),
        )
