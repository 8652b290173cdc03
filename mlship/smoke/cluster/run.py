"""Runs the smoke test as a Job: created, watched, read and always removed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlship.console import warn
from mlship.engine.base import KILLED, ExitState, ImageInfo
from mlship.errors import MlshipError, TransientError, UsageError
from mlship.smoke.cluster.job import CONTAINER, PENDING_SECONDS, Placement, PodTest, job_of
from mlship.smoke.cluster.kubectl import Cluster, explained
from mlship.smoke.cluster.states import PodState, pod_state, refusal_of
from mlship.smoke.pod_log import PodLog, observed_of, read_pod_log
from mlship.smoke.result import SmokeReport
from mlship.smoke.run import Watch, report_of
from mlship.yaml_text import yaml_text

_POLL_SECONDS = 2.0
_NO_POD_SECONDS = 30.0  # from the Job to its pod; the controller takes a second
_NO_NODE_SECONDS = 600.0  # a cluster that starts a GPU node for it takes minutes
_SILENT_SECONDS = 120.0  # without an answer of the cluster


class _Patience:
    """How long to accept the same trouble."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def over(self, trouble: str, seconds: float) -> bool:
        return time.monotonic() - self._since.setdefault(trouble, time.monotonic()) > seconds

    def reset(self, trouble: str) -> None:
        self._since.pop(trouble, None)


def smoke_on_cluster(  # noqa: PLR0913, PLR0917  called once
    cluster: Cluster,
    test: PodTest,
    info: ImageInfo,
    where: Placement,
    name: str,
    watch: Watch,
    listen: Watch,
) -> SmokeReport:
    """Test an image in a cluster as `mlship.smoke.run.smoke` does in an engine, and judge it in the same way.

    Raises:
        EngineError: the cluster cannot be used, or does not run the Job.
        TransientError: the cluster does not answer, or ended the Job for its own reasons.
    """
    with _created(cluster, name, yaml_text(job_of(test, where, name))):
        state, log = _Follower(cluster, test, name, watch).follow()
    return report_of_log(test, info, log, state, listen)


def report_of_log(test: PodTest, info: ImageInfo, log: PodLog, state: PodState | None, listen: Watch) -> SmokeReport:
    """Judge the log of a pod.

    Args:
        state: how the pod ended; None if only its log is known.

    Raises:
        UsageError: the log is not complete or of another image, and `state` is not known.
        EngineError, TransientError: something else than the tested programs ended the pod.
    """
    for line in log.all_printed():
        listen(line)
    killed = None
    if state is not None and not log.complete:
        if state.why or state.code is None or not (log.lines or state.out_of_memory):
            why = state.why or f"the container ended with code {state.code} and printed nothing"
            raise explained(f"pod ended: {why}", image=test.image)
        killed = ExitState(KILLED if state.out_of_memory else state.code, state.out_of_memory)
    observed, end = observed_of(log, test.spec, info, test.device, killed), log.end("pod")
    if state is None and end and end.image.rpartition("@")[2] != test.image.rpartition("@")[2]:
        tested = end.image or "an image that it does not name"
        raise UsageError(f"the log is of {tested}, and not of {test.image}", hint="run the Job of this image")
    return report_of(test.image, observed)


@contextmanager
def _created(cluster: Cluster, name: str, manifest: str) -> Iterator[None]:
    """Create the Job, and remove it whatever happens, even if Ctrl-C comes while it is created."""
    delete = ("delete", "job", name, "--ignore-not-found", "--cascade=background", "--wait=false")
    refused = False
    try:
        try:
            cluster.create(manifest)
        except MlshipError:
            refused = True  # a Job that exists after all ends by itself
            raise
        yield
    finally:
        try:
            cluster.call(*delete)
        except MlshipError as error:
            if not refused:
                command = " ".join((*cluster.program, *delete[:3]))
                warn(f"cannot remove the Job ({error.message}); run `{command}`, or let the cluster end it in time")


@dataclass
class _Follower:
    """Polls the pod until it has ended. Each call has its own time limit, so that nothing can hang."""

    cluster: Cluster
    test: PodTest
    name: str
    watch: Watch
    shown: str = ""
    seen: PodState | None = None
    pull_error: str = ""

    def follow(self) -> tuple[PodState, PodLog]:
        """How the pod ended, and its log."""
        patience, longest = _Patience(), self.test.seconds + PENDING_SECONDS
        self._show("waiting for a pod")
        while not patience.over("the whole", longest):
            try:
                state = self._state()
                log = self._log(state) if state else PodLog()
                refusal = self._refusal() if state is None and patience.over("no pod", _NO_POD_SECONDS) else ""
                patience.reset("no answer")
            except TransientError:
                if patience.over("no answer", _SILENT_SECONDS):
                    raise
            else:
                if state and state.status == "ended":
                    return state, log
                without_node = state and state.status == "pending" and patience.over("no node", _NO_NODE_SECONDS)
                if state and (state.hopeless or without_node):
                    refusal = "\n".join(filter(None, (state.why or "no node was found for the pod", self.pull_error)))
                if refusal:
                    raise explained(refusal, image=self.test.image)
            time.sleep(_POLL_SECONDS)
        raise TransientError(
            f"the Job did not end within {longest} s", hint="look at the node that the pod was on, then try again"
        )

    def _state(self) -> PodState | None:
        pods = self.cluster.get("pods", "-l", f"job-name={self.name}")
        if not pods:
            return self.seen and PodState(self.seen.name, "ended", "PodRemoved: it was deleted before it ended")
        state = self.seen = pod_state(pods[-1])
        if state.why.startswith("ErrImagePull"):
            self.pull_error = state.why
        if state.status == "pending":
            self._show(f"waiting for a node: {state.why}" if state.why else "waiting for a node")
        if state.status == "starting":
            self._show(f"pulling the image: {state.why}" if state.why else "pulling the image")
        return state

    def _refusal(self) -> str:
        """Why there is no pod."""
        events = self.cluster.get("events", "--field-selector", f"involvedObject.name={self.name}")
        return refusal_of(events) or f"NoPod: the cluster created no pod for the Job within {_NO_POD_SECONDS:g} s"

    def _log(self, state: PodState) -> PodLog:
        if state.status != "running" and state.code is None:
            return PodLog()
        log = read_pod_log(self.cluster.call("logs", state.name, "--container", CONTAINER))
        self._show(log.step or "starting Python")
        return log

    def _show(self, step: str) -> None:
        if step != self.shown:
            self.shown = step
            self.watch(step)
