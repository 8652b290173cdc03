"""The state of the test's pod, from what the cluster reports. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from mlship.smoke.cluster.kubectl import nested, objects_in

# Reasons why a container waits that no waiting changes. ErrImagePull is not among them: the kubelet tries again once.
_HOPELESS = {
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
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


def pod_state(pod: Mapping[str, JsonValue]) -> PodState:
    """The state of a pod, from `kubectl get pods -o json`."""
    name, status = _text(nested(pod, "metadata"), "name"), nested(pod, "status")
    phase = _text(status, "phase")
    state = next((nested(one, "state") for one in objects_in(status, "containerStatuses")), {})
    ended, waiting = nested(state, "terminated"), nested(state, "waiting")
    ended_why = _why(status) if _text(status, "reason") else ""
    if ended:
        code = ended.get("exitCode")
        reason = _text(ended, "reason")
        why = ended_why or ("" if reason in ("Completed", "Error", "OOMKilled") else _why(ended))
        return PodState(
            name, "ended", why, code=code if isinstance(code, int) else None, out_of_memory=reason == "OOMKilled"
        )
    if phase in ("Failed", "Succeeded"):
        return PodState(name, "ended", ended_why or "the pod ended, and its container did not run")
    if "running" in state:
        return PodState(name, "running")
    if waiting and _text(waiting, "reason") not in _COMING:
        return PodState(name, "starting", _why(waiting), hopeless=_text(waiting, "reason") in _HOPELESS)
    scheduled = next((one for one in objects_in(status, "conditions") if one.get("type") == "PodScheduled"), {})
    if scheduled.get("status") == "True" or waiting:
        return PodState(name, "starting")
    return PodState(name, "pending", _why(scheduled))


def refusal_of(events: Iterable[Mapping[str, JsonValue]]) -> str:
    """Why a Job has no pod, from its events; empty if they do not say."""
    failed = [_text(event, "message") for event in events if event.get("reason") == "FailedCreate"]
    return failed[-1] if failed else ""


def _why(value: Mapping[str, JsonValue]) -> str:
    return ": ".join(filter(None, (_text(value, "reason"), _text(value, "message"))))


def _text(value: Mapping[str, JsonValue], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
