"""Making checks: one title an id."""

from collections.abc import Iterable

from mlship.smoke.result import Check

TITLES = {
    "image.user": "runs as a user that is not root",
    "image.command": "starts its server without a shell",
    "gpu.visible": "the container can use a GPU",
    "model.import": "the model's code can be imported",
    "model.load": "the model loads",
    "model.warm": "the model answers its sample",
    "model.finite": "every number in the answer is finite",
    "model.shape": "the answer has the declared shape",
    "model.golden": "the answer equals the recorded one",
    "model.compiled": "all that it imports has byte code",
    "model.memory": "the model fits its memory limit",
    "gpu.used": "the model ran on the GPU",
    "serve.live": "the server says that it is alive",
    "serve.ready": "it is ready in time, and then quick",
    "serve.predict": "it answers the sample",
    "serve.malformed": "it refuses malformed requests",
    "serve.inflight": "SIGTERM loses no request in flight",
    "serve.sigterm": "SIGTERM ends it in time, exit code 0",
}
EVIDENCE_LINES = 12


def passed(check: str, seen: str) -> Check:
    return Check(check, TITLES[check], "pass", seen)


def warned(check: str, seen: str, remedy: str) -> Check:
    return Check(check, TITLES[check], "warn", seen, remedy)


def failed(check: str, seen: str, remedy: str, evidence: Iterable[str] = ()) -> Check:
    """A failure; the last lines of the evidence follow what was seen."""
    return Check(check, TITLES[check], "fail", "\n".join((seen, *list(evidence)[-EVIDENCE_LINES:])), remedy)


def skipped(check: str, why: str) -> Check:
    return Check(check, TITLES[check], "skip", why)
