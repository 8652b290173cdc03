"""The state of the test's pod, from what the cluster reports. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlship import plain
from mlship.smoke.cluster.job import CONTAINER

# Reasons why a container waits that no waiting changes. ErrImagePull is not among them: the kubelet tries again once.
_HOPELESS = re.compile(
    r"ImagePullBackOff|ErrImageNeverPull|InvalidImageName|(ImageInspect|CreateContainer(Config)?|RunContainer)Error"
)
_COMING = {"", "ContainerCreating", "PodInitializing"}


@dataclass(frozen=True)
class PodState:
    """Where the pod is.

    Attributes:
        why: what it waits for, or how it was ended, as the cluster says it; empty if there is nothing to say.
        hopeless: it will not run.
        code: of the container's end; None if it never ran or its end is unknown.
    """

    name: str
    status: Literal["pending", "starting", "running", "ended"]
    why: str = ""
    hopeless: bool = False
    code: int | None = None
    out_of_memory: bool = False


def pod_state(pod: object) -> PodState:
    """The state of a pod, from `kubectl get pods -o json`."""
    name, status = plain.text(pod, "metadata", "name") or "", plain.table(pod, "status")
    phase = plain.text(status, "phase")
    own = (one for one in plain.items(status, "containerStatuses") if plain.text(one, "name") == CONTAINER)  # no proxy
    state = next((plain.table(one, "state") for one in own), {})
    ended, waiting = plain.table(state, "terminated"), plain.table(state, "waiting")
    ended_why = _why(status) if plain.text(status, "reason") else ""
    if ended:
        reason = plain.text(ended, "reason")
        why = ended_why or ("" if reason in ("Completed", "Error", "OOMKilled") else _why(ended))
        code = plain.number_at(ended, "exitCode")
        return PodState(name, "ended", why, code=code, out_of_memory=reason == "OOMKilled")
    if phase in ("Failed", "Succeeded"):
        return PodState(name, "ended", ended_why or "the pod ended, and its container did not run")
    if "running" in state:
        return PodState(name, "running")
    reason = plain.text(waiting, "reason") or ""
    if waiting and reason not in _COMING:
        return PodState(name, "starting", _why(waiting), hopeless=bool(_HOPELESS.fullmatch(reason)))
    conditions = plain.items(status, "conditions")
    scheduled = next((one for one in conditions if plain.text(one, "type") == "PodScheduled"), {})
    if plain.text(scheduled, "status") == "True" or waiting:
        return PodState(name, "starting")
    return PodState(name, "pending", _why(scheduled))


def refusal_of(events: Iterable[object]) -> str:
    """Why a Job has no pod, from its events; empty if they do not say."""
    failed = [plain.text(event, "message") for event in events if plain.text(event, "reason") == "FailedCreate"]
    return (failed[-1] if failed else "") or ""


def _why(value: object) -> str:
    return ": ".join(filter(None, (plain.text(value, "reason"), plain.text(value, "message"))))
