"""A stand-in for a cluster that is only read: the parts of Kubernetes' API that `mlship doctor --pod` needs.

The real kubectl and `READ_KUBECTL` both speak to it, so that the fake program answers what the real one does.
"""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import JsonValue

from tests.helpers.local_http import fake_program, served_by

Object = dict[str, JsonValue]

# A program that does with kubectl's arguments what kubectl does, as far as a reader needs it.
READ_KUBECTL = """\
#!{python}
import json, sys, urllib.error, urllib.parse, urllib.request
words = sys.argv[1:]
assert any(word.startswith("--request-timeout=") for word in words), "no time limit"
words = [word for word in words if not word.startswith("--request-timeout=")]
taken = {{}}
for name in ("-n", "--field-selector", "-o"):
    if name in words:
        at = words.index(name)
        taken[name] = words[at + 1]
        del words[at : at + 2]
everywhere = "-A" in words
words = [word for word in words if word != "-A" and not word.startswith("--tail=") and word != "--all-containers"]
verb, kind, *names = words if words[0] == "get" else ("logs", "pods", words[1])
paths = {{"runtimeclasses": "/apis/node.k8s.io/v1", "resourceslices": "/apis/resource.k8s.io/v1"}}
base = paths.get(kind, "/apis/resource.k8s.io/v1" if kind == "resourceclaims" else "/api/v1")
kind = {{"pod": "pods", "node": "nodes"}}.get(kind, kind)
spaced = kind in ("pods", "events", "resourceclaims") and not everywhere
space = f"/namespaces/{{taken.get('-n', 'default')}}" if spaced else ""
path = "/".join((base + space, kind, *names)) + ("/log" if verb == "logs" else "")
query = urllib.parse.urlencode({{"fieldSelector": taken.get("--field-selector", "")}})
try:
    print(urllib.request.urlopen("{server}" + path + "?" + query, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    found = json.loads(error.read())
    sys.exit(f"Error from server ({{found['reason']}}): {{found['message']}}")
"""


@dataclass
class PodCluster:
    """What the stand-in holds.

    Attributes:
        objects: all, each with its kind.
        forbids: kinds of objects, such as "nodes", that this user may not read.
        asked: the method and path of each request.
        logs: the log of each pod, by name.
        delay: seconds before each answer.
    """

    objects: list[Object] = field(default_factory=list)
    forbids: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def _list(kind: str, *rows: tuple[str, str, bool]) -> Object:
    listed: list[JsonValue] = [
        {"name": name, "singularName": one.lower(), "namespaced": spaced, "kind": one, "verbs": ["get", "list"]}
        for name, one, spaced in rows
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kind, "resources": listed}


def _group(name: str) -> Object:
    version: Object = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


_DISCOVERY: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group("node.k8s.io"), _group("resource.k8s.io")],
    },
    "/api/v1": _list("v1", ("pods", "Pod", True), ("nodes", "Node", False), ("events", "Event", True)),
    "/apis/node.k8s.io/v1": _list("node.k8s.io/v1", ("runtimeclasses", "RuntimeClass", False)),
    "/apis/resource.k8s.io/v1": _list(
        "resource.k8s.io/v1", ("resourceclaims", "ResourceClaim", True), ("resourceslices", "ResourceSlice", False)
    ),
}
_KINDS = {
    name: str(row["kind"])
    for path in _DISCOVERY.values()
    for row in path.get("resources", [])  # type: ignore[union-attr]  # a list
    if isinstance(row, dict) and (name := str(row["name"]))
}
_PATH = re.compile(r"/apis?(?:/[\w.]+)?/v1(?:/namespaces/([\w-]+))?/(\w+)(?:/([\w.-]+))?(/log)?")


class _Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[PodCluster]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path in _DISCOVERY:
            self._answer(_DISCOVERY[parts.path])
            return
        self.state.asked.append(f"GET {parts.path}")
        threading.Event().wait(self.state.delay)
        asked = _PATH.fullmatch(parts.path)
        if asked is None:
            self._refuse(404, "NotFound", f"{parts.path} not found")
            return
        space, kind, name, log = asked.groups()
        if kind in self.state.forbids:
            said = f'{kind} is forbidden: User "ci" cannot list resource "{kind}" in API group "" at the cluster scope'
            self._refuse(403, "Forbidden", said)
        elif kind == "namespaces":
            self._answer({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
        elif log:
            self._answer(self.state.logs.get(name, ""))
        else:
            self._give(_KINDS[kind], kind, space, name, parse_qs(parts.query).get("fieldSelector", [""])[0])

    def _give(self, one: str, kind: str, space: str | None, name: str | None, selector: str) -> None:
        found = [
            item
            for item in self.state.objects
            if item["kind"] == one
            and space in {None, _at(item, "metadata.namespace")}
            and name in {None, _at(item, "metadata.name")}
            and all(str(_at(item, key)) == value for key, value in _terms(selector))
        ]
        if name and not found:
            self._refuse(404, "NotFound", f'{kind} "{name}" not found')
        elif name:
            self._answer(found[0])
        else:
            self._answer({"kind": f"{one}List", "apiVersion": "v1", "metadata": {}, "items": [*found]})

    def do_POST(self) -> None:
        self._write()

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815  names of http.server

    def _write(self) -> None:
        self.state.asked.append(f"{self.command} {self.path}")
        self._refuse(403, "Forbidden", "this cluster is only read")

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


def _at(item: JsonValue, path: str) -> JsonValue:
    for key in path.split("."):
        item = item.get(key) if isinstance(item, dict) else None
    return item


def _terms(selector: str) -> Iterator[tuple[str, str]]:
    for term in filter(None, unquote(selector).split(",")):
        key, _, value = term.partition("=")
        yield key, value


@contextmanager
def pod_cluster(state: PodCluster) -> Iterator[str]:
    """Serve a stand-in; gives its address."""
    with served_by(_Api, state) as place:
        yield f"http://{place}"


def reading_kubectl(folder: Path, server: str) -> Path:
    """Write the fake program for a stand-in; returns its folder, for PATH."""
    return fake_program(folder, "kubectl", READ_KUBECTL, server)
