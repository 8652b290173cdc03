"""Answers of registries that the specification does not foresee, or only just."""

import base64
import http.server
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeAlias

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.registry.client import OCI_INDEX, OCI_MANIFEST, Registry, opened
from mlship.registry.reference import Reference
from tests.helpers.local_http import served_by

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode()
Answer: TypeAlias = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[list[Answer]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.state[0](self)

    def say(self, status: int, data: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data) if length is None else length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = length is not None


@contextmanager
def registry(answer: Answer) -> Iterator[Registry]:
    with served_by(Handler, [answer]) as host, opened(Reference.parse(f"{host}/team/toy:1")) as found:
        yield found


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda to: to.say(200, MANIFEST[:20], length=len(MANIFEST)), TransientError, "does not answer"),
        (lambda to: to.say(200, b"<html>Log in</html>", Content_Type="text/html"), UsageError, "sent text/html that"),
        (lambda to: to.say(200, MANIFEST[:20], Content_Type=OCI_MANIFEST), UsageError, "is not a manifest"),
    ],
)
def test_what_is_no_manifest_is_an_error(answer: Answer, kind: type[MlshipError], words: str) -> None:
    with registry(answer) as found, pytest.raises(kind, match=words):
        found.manifest("1")


def pages(to: Handler) -> None:
    second = "page=2" in to.path
    rows = json.dumps({"manifests": [{"digest": "b" if second else "a"}]}).encode()
    to.say(200, rows, Content_Type=OCI_INDEX, Link="" if second else f'<{to.path}?page=2>; rel="next"')


def test_every_page_of_referrers_is_read() -> None:
    with registry(pages) as found:
        assert [row["digest"] for row in found.referrers("sha256:1")] == ["a", "b"]
    broken = registry(lambda to: to.say(503) if "page=2" in to.path else pages(to))
    with broken as found, pytest.raises(TransientError, match="HTTP 503"):
        found.referrers("sha256:1")


def test_a_list_that_links_to_itself_ends() -> None:
    with registry(lambda to: to.say(200, b'{"tags": ["a"]}', Link=f'<{to.path}>; rel="next"')) as found:
        assert found.tags() == ("a",)
    turns = itertools.cycle("12")
    with registry(lambda to: to.say(200, b'{"tags": ["a"]}', Link=f'<?n={next(turns)}>; rel="next"')) as found:
        assert {*found.tags()} == {"a"}


@pytest.mark.parametrize("status", [400, 401, 404, 405, 406, 501])
def test_a_registry_without_the_api_has_a_tag(status: int) -> None:
    """Artifactory answers 406, and Harbor before 2.8 answers 401 without a challenge."""
    rows = json.dumps({"manifests": [{"digest": "a"}]}).encode()
    with registry(lambda to: to.say(status) if "referrers" in to.path else to.say(200, rows)) as found:
        assert found.referrers("sha256:1") == [{"digest": "a"}]


@pytest.mark.parametrize(("status", "kind"), [(403, UsageError), (429, TransientError), (503, TransientError)])
def test_a_failure_is_no_registry_without_referrers(status: int, kind: type[MlshipError]) -> None:
    with registry(lambda to: to.say(status if "referrers" in to.path else 404)) as found, pytest.raises(kind):
        found.referrers("sha256:1")


BEARER = 'Bearer realm="http://HOST/token",service="a, b",scope="repository:team/toy:pull"'


@pytest.mark.parametrize(
    ("challenge", "with_login", "without"),
    [
        (BEARER, "Bearer token", "Bearer token"),
        (f'Basic realm="Repositories", {BEARER}', "Bearer token", "Bearer token"),
        (f'{BEARER}, Basic realm="Repositories"', "Bearer token", "Bearer token"),
        ("bearer realm=http://HOST/token, service=toy", "Bearer token", "Bearer token"),
        ('Bearer Realm="/token",Service="toy"', "Bearer token", "Bearer token"),
        ('Negotiate, Basic realm="Repositories"', "Basic bWU6cHc=", None),
        ('BASIC realm="A, Bearer realm=b", charset="UTF-8"', "Basic bWU6cHc=", None),
        ('Bearer service="toy", Basic realm="Repositories"', "Basic bWU6cHc=", None),
        ("Negotiate", None, None),
    ],
)
def test_a_challenge_is_answered(docker: Path, challenge: str, with_login: str | None, without: str | None) -> None:
    def answer(to: Handler) -> None:
        seen.append(to.headers.get("Authorization"))
        if to.path.startswith("/token"):
            to.say(200, b'{"token": "token"}')
        elif seen[-1] is None:
            to.say(401, WWW_Authenticate=challenge.replace("HOST", to.headers["Host"]))
        else:
            to.say(200, MANIFEST)

    for login, wanted in ((True, with_login), (False, without)):
        seen: list[str | None] = []
        with served_by(Handler, [answer]) as host:
            auth = {host: {"auth": base64.b64encode(b"me:pw").decode()}} if login else {}
            docker.write_text(json.dumps({"auths": auth}))
            with opened(Reference.parse(f"{host}/team/toy:1")) as found:
                if wanted is None:
                    with pytest.raises(UsageError, match="denied access"):
                        found.manifest("1")
                else:
                    assert found.manifest("1")
        assert (seen[-1] if wanted else None) == wanted
