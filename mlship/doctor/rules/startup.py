"""Rules about a GPU that does not start although its driver is loaded, and about what it lost in sleep."""

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import cuda_codes, variable
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_PIPES = "/tmp/nvidia-mps"  # noqa: S108  the daemon's default
_MPS = {805, 806, 807, 808, 809, 810}


@computes("mps-not-reached")
def _mps_refuses(facts: Facts) -> Values | None:
    found = next(((name, code) for name, code in cuda_codes(facts) if code in _MPS), None)
    if found is None:
        return None
    where, code = found[0].partition(".")[0], codes.cuda(found[1])
    folder = known(variable(facts.container if where == "container" else facts.host, "CUDA_MPS_PIPE_DIRECTORY"))
    volume = f"{_PIPES}:{folder or _PIPES}"
    return {"where": where, "code": code, "failed": Evidence(found[0], code), "folder": folder, "volume": volume}
