"""Startup, readiness and liveness probes from what the smoke test measured. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mlship.errors import CheckFailed
from mlship.known_texts import phrase
from mlship.proof.statement import Predicate
from mlship.smoke.spec import SmokeSpec
from mlship.units import duration
from mlship.yaml_text import Yaml

_MARGIN = 5  # a node has cold caches, slower disks and other pods
_ANSWERS = 10  # a probe may wait behind as many requests
_LONGEST_TIMEOUT = 30
_LONGEST_PERIOD = 10
_DEAD_SECONDS = 60  # without an answer; a restart loses the pod's requests, so liveness is patient


@dataclass(frozen=True)
class MeasuredStart:
    """How the server started in the slowest proof of an image.

    Attributes:
        ready_s: from container start to ready, with import, load and warm-up.
        answer_s: median time of a response.
        isolated: a test ran without a network.
        source: which test this was.
    """

    ready_s: float
    answer_s: float
    isolated: bool
    source: str


def measured_start(image: str, proofs: Iterable[Predicate], *, gpu: bool) -> MeasuredStart:
    """The slowest start among the proofs on the device that the image is for.

    Raises:
        CheckFailed: no proof has a measured start.
    """
    used = [proof.mlship for proof in proofs if proof.mlship.device == "gpu" or not gpu]
    timed = [(found.figures.ready_s, found) for found in used if found.figures.ready_s is not None]
    if not timed:
        raise CheckFailed(
            f"no proof of {image} has a measured startup, so its probes are unknown",
            hint=f"test it again: `mlship smoke {image} --attest`",
        )
    ready, slowest = max(timed, key=lambda each: each[0])
    where = f"on {slowest.device}, {slowest.date[:10]}, engine {slowest.engine}"
    return MeasuredStart(
        ready_s=ready,
        answer_s=max(found.figures.answer_s or 0.0 for _, found in timed),
        isolated=any(not found.engine.startswith("Kubernetes") for _, found in timed),
        source=where if len(timed) == 1 else f"{where}; slowest of {len(timed)} proofs",
    )


def startup_budget(spec: SmokeSpec, start: MeasuredStart) -> int:
    """Seconds that a pod gets to become ready."""
    return math.ceil(max(_MARGIN * start.ready_s, spec.startup_seconds))


def probes(spec: SmokeSpec, start: MeasuredStart) -> dict[str, Yaml]:
    """The three probes of the server's container."""
    timeout = min(_LONGEST_TIMEOUT, max(1, math.ceil(_ANSWERS * start.answer_s)))
    ready: dict[str, Yaml] = {"httpGet": {"path": spec.ready, "port": spec.port}, "timeoutSeconds": timeout}
    live: dict[str, Yaml] = {"httpGet": {"path": spec.live, "port": spec.port}, "timeoutSeconds": timeout}
    if spec.live == spec.ready:
        live = {"tcpSocket": {"port": spec.port}, "timeoutSeconds": timeout}
    first = min(_LONGEST_PERIOD, max(1, round(start.ready_s / 10)))
    beat = max(10, timeout)
    return {
        "startupProbe": _probe(ready, first, math.ceil(startup_budget(spec, start) / first)),
        "readinessProbe": _probe(ready, max(5, timeout), 3),
        "livenessProbe": _probe(live, beat, max(3, _DEAD_SECONDS // beat)),
    }


def probe_notes(spec: SmokeSpec, start: MeasuredStart) -> list[str]:
    """What the probes are based on."""
    budget = startup_budget(spec, start)
    decided = "`serve.startup_seconds`" if budget == math.ceil(spec.startup_seconds) else f"{_MARGIN} times as long"
    notes = [f"ready after {duration(start.ready_s)} in the smoke test ({start.source})"]
    notes.append(f"the startup probe allows {budget} s: {decided}")
    if spec.live == spec.ready:
        notes.append(phrase("one_health_route").format(spec.live))
    return notes


def _probe(check: dict[str, Yaml], period: int, failures: int) -> dict[str, Yaml]:
    return {**check, "periodSeconds": period, "failureThreshold": failures}
