"""A stand-in for a cluster: the parts of Kubernetes' API that kubectl needs for `mlship smoke --kubernetes`.

A Job's container is a process of this machine, so its log is a real one. Nothing schedules, pulls or confines: what a
test wants to see of that is given as states of the pod. The real kubectl and `FAKE_KUBECTL` both speak to it.
"""

import http.server
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, cast
from urllib.parse import parse_qs, urlsplit

import yaml
from pydantic import JsonValue

from tests.helpers.local_http import fake_program, served_by

Object = dict[str, JsonValue]

# A program that does with kubectl's arguments what kubectl does, as far as mlship uses it.
FAKE_KUBECTL = """\
#!{python}
import json, sys, urllib.error, urllib.request, yaml
words = sys.argv[1:]
flags = [word for word in words if word.startswith("--request-timeout=")]
assert flags, "no time limit"
namespace = words[words.index("--namespace") + 1] if "--namespace" in words else "default"
for name in ("--context", "--namespace"):
    if name in words:
        at = words.index(name)
        del words[at : at + 2]
words = [word for word in words if word not in flags]

def ask(method, path, body=None):
    request = urllib.request.Request("{server}" + path, body, {{"Content-Type": "application/json"}}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        found = json.loads(error.read())
        if error.code == 404 and "--ignore-not-found" in words:
            sys.exit(0)
        sys.exit(f"Error from server ({{found['reason']}}): {{found['message']}}")

pods, jobs = f"/api/v1/namespaces/{{namespace}}/pods", f"/apis/batch/v1/namespaces/{{namespace}}/jobs"
match words:
    case ["create", "-f", file]:
        ask("POST", jobs, json.dumps(yaml.safe_load(open(file))).encode())
    case ["get", "pods", "-l", selector, "-o", "json"]:
        print(ask("GET", f"{{pods}}?labelSelector={{selector}}"))
    case ["get", "events", "--field-selector", selector, "-o", "json"]:
        print(ask("GET", f"/api/v1/namespaces/{{namespace}}/events?fieldSelector={{selector}}"))
    case ["logs", name, "--container", "smoke"]:
        print(ask("GET", f"{{pods}}/{{name}}/log"), end="")
    case ["delete", "job", name, "--ignore-not-found", "--cascade=background", "--wait=false"]:
        ask("DELETE", f"{{jobs}}/{{name}}")
    case ["version", "-o", "json"]:
        print(json.dumps({{"serverVersion": json.loads(ask("GET", "/version"))}}))
    case _:
        sys.exit(f"unknown command: {{words}}")
"""


_AS_USER = ("unshare", "--user", "--map-user=1001", "--map-group=1001")  # where tests run as root


@dataclass
class ClusterState:
    """What the stand-in holds, and how it behaves.

    Attributes:
        folder: working directory of containers.
        refuses: answer to the creation of a Job: reason and message.
        before: states of the pod before its container runs, one for each time that it is asked for; the last one stays
            if `stuck`.
        ends: what the pod reports as its end instead of its exit code.
        events: messages about the Job.
        creates_pods: the Job gets a pod.
        cuts: the log ends after this many lines, as that of a killed container.
        fails: the next requests that fail with HTTP 503.
        keeps_jobs: it does not allow to delete them.
    """

    folder: Path
    refuses: tuple[str, str] | None = None
    before: list[Object] = field(default_factory=list)
    stuck: bool = False
    ends: Object | None = None
    events: list[str] = field(default_factory=list)
    creates_pods: bool = True
    cuts: int | None = None
    fails: int = 0
    keeps_jobs: bool = False
    env: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    jobs: dict[str, Object] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def run(self, job: Object) -> None:
        """Start the container's command as the kubelet does: with `$$` for `$`, in the image's folder."""
        with (self.folder / "pod.log").open("w") as log:
            self.process = subprocess.Popen(
                [*_AS_USER, *command_of(job)] if os.geteuid() == 0 else command_of(job),
                cwd=self.folder,
                env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **self.env},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def pod(self) -> Object | None:
        """The pod's state now."""
        if not self.creates_pods or not self.jobs:
            return None
        name = f"{next(iter(self.jobs))}-abcde"
        if self.before:
            status = self.before[0] if self.stuck and len(self.before) == 1 else self.before.pop(0)
            return {"metadata": {"name": name}, "status": status}
        if self.process is None:
            self.run(next(iter(self.jobs.values())))
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return {"metadata": {"name": name}, "status": running()}
        return {"metadata": {"name": name}, "status": self.ends or ended(code, "Error" if code else "Completed")}

    def log(self) -> str:
        lines = (self.folder / "pod.log").read_text().splitlines(keepends=True)
        return "".join(lines[: self.cuts])

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def container_of(job: Object) -> Object:
    pod = cast("Object", cast("Object", cast("Object", job["spec"])["template"])["spec"])
    return cast("Object", cast("list[JsonValue]", pod["containers"])[0])


def command_of(job: Object) -> list[str]:
    """The container's command line, as Kubernetes expands it."""
    container = container_of(job)
    words = [*cast("list[str]", container["command"]), *cast("list[str]", container["args"])]
    assert not any("$(" in word.replace("$$", "") for word in words), "Kubernetes would expand a variable"
    return [word.replace("$$", "$") for word in words]


# What a service mesh adds to each pod; it runs as long as the pod does.
PROXY: Object = {"name": "istio-proxy", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}


def unschedulable(message: str) -> Object:
    condition: Object = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def waiting(reason: str, message: str = "") -> Object:
    state: Object = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [PROXY, {"name": "smoke", "state": state}],
    }


def running() -> Object:
    state: Object = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return {"phase": "Running", "containerStatuses": [PROXY, {"name": "smoke", "state": state}]}


def ended(code: int, reason: str, message: str = "") -> Object:
    state: Object = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [PROXY, {"name": "smoke", "state": state}]}


def evicted(message: str) -> Object:
    return {"phase": "Failed", "reason": "Evicted", "message": message}


def _resources(version: str, **rows: str) -> Object:
    verbs: list[JsonValue] = ["create", "delete", "get", "list"]
    listed: list[JsonValue] = [
        {"name": name.replace("_", "/"), "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}
        for name, kind in rows.items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}


_VERSION: Object = {"groupVersion": "batch/v1", "version": "v1"}
_GROUP: Object = {"name": "batch", "versions": [_VERSION], "preferredVersion": _VERSION}
# It tells kubectl that the server checks the fields of a Job, so that kubectl need not.
_PATCH: Object = {
    "operationId": "patch",
    "parameters": [{"name": "fieldValidation", "in": "query"}],
    "x-kubernetes-group-version-kind": {"group": "batch", "version": "v1", "kind": "Job"},
}
_DISCOVERY: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]},
    "/api/v1": _resources("v1", pods="Pod", pods_log="Pod", events="Event"),
    "/apis/batch/v1": _resources("batch/v1", jobs="Job"),
    "/openapi/v3": {"paths": {"apis/batch/v1": {"serverRelativeURL": "/openapi/v3/apis/batch/v1"}}},
    "/openapi/v3/apis/batch/v1": {
        "openapi": "3.0.0",
        "paths": {"/apis/batch/v1/namespaces/{namespace}/jobs/{name}": {"patch": _PATCH}},
    },
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.1"},
}


class _Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[ClusterState]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self._failing():
            return
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        pod = self.state.pod() if "/pods" in path else None
        if path in _DISCOVERY:
            self._answer(_DISCOVERY[path])
        elif path.endswith("/events"):
            self._answer(_list("Event", [_event(message) for message in self.state.events]))
        elif path.endswith("/log"):
            self._answer(self.state.log())
        elif path.endswith("/pods"):
            wanted = f"job-name={next(iter(self.state.jobs), '')}"
            right = [pod] if pod and query.get("labelSelector") == [wanted] else []
            self._answer(_list("Pod", [_whole(one) for one in right]))
        elif pod:
            self._answer(_whole(pod))
        else:
            self._refuse(404, "NotFound", f"{path} not found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._failing():
            return
        if self.state.refuses:
            self._refuse(403, *self.state.refuses)
            return
        job = cast("Object", yaml.safe_load(body))
        self.state.jobs[str(cast("Object", job["metadata"])["name"])] = job
        self._answer(job, 201)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._failing():
            return
        if self.state.keeps_jobs:
            self._refuse(403, "Forbidden", 'User "ci" cannot delete resource "jobs" in API group "batch"')
            return
        if self.state.jobs.pop(self.path.partition("?")[0].rpartition("/")[2], None) is None:
            self._refuse(404, "NotFound", "jobs not found")
            return
        self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _failing(self) -> bool:
        self.state.asked.append(f"{self.command} {urlsplit(self.path).path}")
        if self.state.fails <= 0:
            return False
        self.state.fails -= 1
        self._refuse(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        return True

    def _refuse(self, code: int, reason: str, message: str) -> None:
        status: Object = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self._answer({**status, "reason": reason, "message": message}, code)

    def _answer(self, value: Object | str, code: int = 200) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _whole(pod: Object) -> Object:
    container: Object = {"name": "smoke", "image": "x"}
    return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}, **pod}


def _event(message: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "reason": "FailedCreate",
        "message": message,
    }


def _list(kind: str, found: list[Object]) -> Object:
    return {"apiVersion": "v1", "kind": f"{kind}List", "metadata": {}, "items": [*found]}


@contextmanager
def cluster_api(state: ClusterState) -> Iterator[str]:
    """Serve a stand-in; gives its address."""
    with served_by(_Api, state) as place:
        try:
            yield f"http://{place}"
        finally:
            state.close()


def fake_kubectl(folder: Path, server: str) -> Path:
    """Write the fake program for a stand-in; returns its folder, for PATH."""
    return fake_program(folder, "kubectl", FAKE_KUBECTL, server)


def kubeconfig(folder: Path, server: str) -> Path:
    """A configuration of the real kubectl for a stand-in."""
    file = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    file.write_text(yaml.safe_dump(document))
    return file
