"""A registry over HTTP, for what engines have no verb for: manifests, small blobs and referrers.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias
from urllib.parse import parse_qsl, urljoin, urlsplit

from mlship import plain
from mlship.errors import CheckFailed, MlshipError, TransientError, UsageError
from mlship.known_texts import first_match, phrase
from mlship.registry.reference import DOCKER_HUB, Reference

if TYPE_CHECKING:
    from requests import Response, Session

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"  # https://github.com/opencontainers/image-spec/blob/main/annotations.md
_DOCKER = "application/vnd.docker.distribution.manifest"
INDEXES = (OCI_INDEX, f"{_DOCKER}.list.v2+json")
_MANIFESTS = ", ".join((OCI_MANIFEST, f"{_DOCKER}.v2+json", *INDEXES))
_MOST_BYTES = 8_000_000  # of a manifest, an index or an attestation; registries refuse manifests above 4 MiB
TIMEOUT = (10, 60)  # seconds to connect or to send a block, and between bytes of an answer
_LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")  # plain HTTP, as Docker's default
_DAEMON = "/etc/docker/daemon.json"
_CERTIFICATES = "/etc/docker/certs.d"
_FIELDS = r'(?:[\s,]*\w+\s*=\s*(?:"[^"]*"|[^\s",]+))*'
_CHALLENGE = re.compile(rf"(?:^|,)\s*(basic|bearer)\b({_FIELDS})", re.IGNORECASE)
_FIELD = re.compile(r'(\w+)\s*=\s*"?((?<=")[^"]*|[^\s",]+)')
_FAILURES = {403, 408, 429, 500, 502, 503, 504}  # that do not say that a registry lacks the referrers API

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
Method: TypeAlias = Literal["GET", "HEAD", "PUT", "POST"]


@dataclass(frozen=True)
class StoredContent:
    """Bytes of a registry, checked against their digest.

    Attributes:
        media_type: as the registry declares it.
        digest: sha256 of `data`.
    """

    media_type: str
    digest: str
    data: bytes

    @property
    def descriptor(self) -> dict[str, JsonValue]:
        """The OCI descriptor: https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}

    def json(self) -> dict[str, JsonValue]:
        """The data as a JSON object; empty if it is none."""
        found = plain.json_of(self.data)
        return found if isinstance(found, dict) else {}

    def rows(self, key: str) -> list[dict[str, JsonValue]]:
        """The objects in a list of the JSON object, such as `layers`; none if there is no such list."""
        return [row for row in plain.items(self.json(), key) if isinstance(row, dict)]


def content(media_type: str, data: bytes) -> StoredContent:
    return StoredContent(media_type, digest_of(data), data)


def json_content(media_type: str, document: JsonValue) -> StoredContent:
    """A document as JSON with sorted keys: the same document gives the same bytes."""
    return content(media_type, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def manifest_of(media_type: str, **fields: JsonValue) -> StoredContent:
    """A manifest or an index with these fields: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md."""
    return json_content(media_type, {"schemaVersion": 2, "mediaType": media_type, **fields})


def title_of(layer: Mapping[str, JsonValue]) -> str:
    """The name of the file that a layer of an artifact holds; empty without one."""
    return plain.text(layer, "annotations", TITLE) or ""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository's registry, with the credentials that `docker login` stored.

    Every verb raises TransientError if the registry does not answer, and UsageError if it refuses.
    """

    def __init__(self, reference: Reference, session: "Session") -> None:
        self._reference = reference
        plain = _LOCAL.fullmatch(reference.api) or reference.api in _insecure_registries()
        scheme = "http" if plain else "https"
        self._base = f"{scheme}://{reference.api}/v2/{reference.repository}/"
        self._authorization: dict[str, str] = {}
        own = Path(_CERTIFICATES) / reference.host / "ca.crt"
        self._own_ca = str(own) if own.is_file() else None
        session.verify = self._own_ca or session.verify  # also for its token server, unless the environment has a CA
        self._request_to = partial(session.request, timeout=TIMEOUT, stream=True)

    def manifest(self, version: str) -> StoredContent | None:
        """A manifest or index, by tag or digest; None if there is none.

        Raises:
            CheckFailed: its bytes do not have the requested digest.
            UsageError: it is no JSON object, such as the page of a proxy.
        """
        found = self._content(f"manifests/{version}", version, {"Accept": _MANIFESTS})
        if found is not None and not found.json():
            what = f"`{self._reference}`: the registry sent {found.media_type or 'data'} that is not a manifest"
            raise UsageError(what, hint="check the host and its port; a proxy may answer instead of it")
        return found

    def blob(self, digest: str) -> StoredContent | None:
        """A small blob; None if there is none.

        Raises:
            CheckFailed: its bytes do not have the digest.
        """
        return self._content(f"blobs/{digest}", digest, {})

    def layer(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob of any size, as they arrive.

        Raises:
            CheckFailed: all of them were read, and they do not have the digest.
        """
        with self._connection():
            answer = self._ask("GET", f"blobs/{digest}")
            self._expect(answer, 200)
            hashed = hashlib.sha256()
            for part in answer.iter_content(1 << 20):
                hashed.update(part)
                yield part
        self._check_digest(f"sha256:{hashed.hexdigest()}", digest)

    def put_manifest(self, manifest: StoredContent, version: str | None = None) -> bool:
        """Store a manifest under its digest or a tag; returns whether the registry lists its subject's referrers.

        https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject
        """
        headers = {"Content-Type": manifest.media_type}
        answer = self._ask("PUT", f"manifests/{version or manifest.digest}", headers=headers, data=manifest.data)
        self._expect(answer, 201)
        return "OCI-Subject" in answer.headers

    def put_blob(self, blob: StoredContent) -> None:
        """Store a blob unless it is there."""
        self._upload(blob.digest, BytesIO(blob.data))

    def put_file(self, file: Path, digest: str) -> None:
        """Store a file of any size as a blob, unless it is there; the registry checks its digest."""
        with file.open("rb") as stream:
            self._upload(digest, stream)

    def _upload(self, digest: str, data: BinaryIO) -> None:
        """https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#post-then-put."""
        if self._ask("HEAD", f"blobs/{digest}").status_code == 200:
            return
        started = self._ask("POST", "blobs/uploads/")
        self._expect(started, 202)
        target = urljoin(started.url, started.headers.get("Location", ""))
        address = f"{target}{'&' if urlsplit(target).query else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream"}
        self._expect(self._ask("PUT", address, headers=headers, data=data), 201)

    def tags(self) -> tuple[str, ...]:
        """All tags of the repository; none if there is no such repository."""
        answer = self._ask("GET", "tags/list?n=1000")
        if answer.status_code == 404:
            return ()
        return tuple(tag for page in self._pages(answer) for tag in plain.texts(page.json(), "tags") or ())

    def referrers(self, digest: str) -> list[dict[str, JsonValue]]:
        """Descriptors of the manifests whose subject has this digest.

        A registry without the referrers API has them in an index with the digest as its tag.
        https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
        """
        answer = self._ask("GET", f"referrers/{digest}", headers={"Accept": OCI_INDEX})
        if answer.status_code == 200 and "index" in answer.headers.get("Content-Type", ""):
            return [row for page in self._pages(answer) for row in page.rows("manifests")]
        if answer.status_code in _FAILURES or "WWW-Authenticate" in answer.headers:  # Harbor 2.7 has neither API nor it
            self._expect(answer, 200)
        fallback = self.manifest(fallback_tag(digest))
        return fallback.rows("manifests") if fallback else []

    def _pages(self, answer: "Response") -> Iterator[StoredContent]:
        """An answer and the pages that follow it; a list that links back to a page has ended."""
        seen = set[str]()
        while answer.url not in seen:
            seen.add(answer.url)
            self._expect(answer, 200)
            yield content("", self._body(answer))
            if "next" in answer.links:
                answer = self._ask("GET", urljoin(answer.url, answer.links["next"]["url"]))

    def _content(self, path: str, version: str, headers: Mapping[str, str]) -> StoredContent | None:
        answer = self._ask("GET", path, headers=headers)
        if answer.status_code == 404:
            return None
        self._expect(answer, 200)
        found = content(answer.headers.get("Content-Type", "").partition(";")[0], self._body(answer))
        if ":" in version:
            self._check_digest(found.digest, version)
        return found

    def _check_digest(self, found: str, wanted: str) -> None:
        if found != wanted:
            raise CheckFailed(
                f"`{self._reference}`: the registry sent other bytes than {wanted} (they have {found})",
                hint="the content was changed or damaged in the registry: push the image again",
            )

    def _body(self, answer: "Response") -> bytes:
        data = b""
        with self._connection():
            for part in answer.iter_content(1 << 16):
                data += part
                if len(data) > _MOST_BYTES:
                    limit = f"{_MOST_BYTES // 1_000_000} MB for one manifest"
                    raise UsageError(
                        f"`{self._reference}`: the registry sent more than {limit}", hint="check the name of the image"
                    )
        return data

    def _ask(
        self, method: Method, path: str, *, headers: Mapping[str, str] | None = None, data: bytes | BinaryIO = b""
    ) -> "Response":
        with self._connection():
            answer = self._request(method, path, headers or {}, data)
            if answer.status_code == 401 and self._authorize(answer.headers.get("WWW-Authenticate", "")):
                if not isinstance(data, bytes):
                    data.seek(0)
                answer = self._request(method, path, headers or {}, data)
            return answer

    def _send(
        self,
        method: Method,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | BinaryIO | Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> "Response":
        """Send to any host; on the registry's own, its CA counts more than one of the environment."""
        verify = self._own_ca if self._is_own(address) else None
        return self._request_to(method, address, headers=headers, data=data, params=params, auth=auth, verify=verify)

    def _is_own(self, address: str) -> bool:
        return urlsplit(address).netloc == urlsplit(self._base).netloc

    def _request(self, method: Method, path: str, headers: Mapping[str, str], data: bytes | BinaryIO) -> "Response":
        address = urljoin(self._base, path)
        # A registry may send an upload elsewhere; that place must not see the credentials.
        known = self._authorization if self._is_own(address) else {}
        return self._send(method, address, headers={**headers, **known}, data=data or None)

    def _authorize(self, challenge: str) -> bool:
        """Answer a challenge with Docker's credentials, or with none; False if there is no way to answer it.

        https://distribution.github.io/distribution/spec/auth/token/
        """
        from mlship.engine.sdk import registry_credentials

        offers = {kind.lower(): rest for kind, rest in _CHALLENGE.findall(challenge)}
        user, password, refresh = registry_credentials(self._reference.host)
        fields = {name.lower(): value for name, value in _FIELD.findall(offers.get("bearer", ""))}
        realm = urljoin(self._base, fields.get("realm", ""))
        if "realm" not in fields or not realm.startswith(("https://", "http://")):
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._authorization = {"Authorization": f"Basic {encoded}"} if user and "basic" in offers else {}
            return bool(self._authorization)
        scope = f"repository:{self._reference.repository}:pull,push"
        asked = {"service": fields.get("service", ""), "scope": fields.get("scope") or scope}
        token = self._token(realm, asked, user, password, refresh)
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return bool(token)

    def _token(self, realm: str, asked: Mapping[str, str], user: str, password: str, refresh: str) -> str:
        if refresh:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": refresh, "client_id": "mlship"}
            answer = self._send("POST", realm, data=form)
        else:
            query = {**dict(parse_qsl(urlsplit(realm).query)), **asked}
            auth = (user, password) if user else None
            answer = self._send("GET", realm.partition("?")[0], params=query, auth=auth)
        self._expect(answer, 200)
        found = content("", self._body(answer)).json()
        return plain.text(found, "token") or plain.text(found, "access_token") or ""

    def _expect(self, answer: "Response", status: int) -> None:
        code = answer.status_code
        if code == status:
            return
        body = self._body(answer).decode(errors="replace") if code == 400 else ""
        where = f"`{self._reference}`: {self._reference.host}"
        raise self._known(f"HTTP {code}\n{body}", where) or UsageError(
            f"{where} refused the request (HTTP {code})", hint="check the name of the image"
        )

    def _known(self, text: str, where: str) -> MlshipError | None:
        host = self._reference.host
        found = first_match(text, "registry-api")
        login = "docker login" if host == DOCKER_HUB else f"docker login {host}"
        return found.as_error(where=where, host=host, login=login) if found else None

    @contextmanager
    def _connection(self) -> Iterator[None]:
        from requests import RequestException

        try:
            yield
        except MlshipError:
            raise
        except (RequestException, OSError) as error:
            problem, where = type(error).__name__, f"`{self._reference}`: {self._reference.api}"
            raise self._known(f"{problem}: {error}", where) or TransientError(
                f"{where} does not answer ({problem})", hint=phrase("check_network")
            ) from error


@contextmanager
def opened(reference: Reference) -> Iterator[Registry]:
    """The registry of an image, for its repository."""
    with http_session() as session:
        session.headers["User-Agent"] = "mlship"
        yield Registry(reference, session)


@contextmanager
def http_session() -> Iterator["Session"]:
    """Trusts the certificates of this machine; a proxy of the environment is used as for any program."""
    import requests

    with requests.Session() as session:
        # Without an `auth`, requests replaces the header Authorization with a password of ~/.netrc:
        # https://requests.readthedocs.io/en/latest/user/authentication/#netrc-authentication
        session.auth = lambda request: request
        session.verify = ssl.get_default_verify_paths().cafile or True
        yield session


def fallback_tag(digest: str) -> str:
    """The tag of the index that lists referrers where the registry does not."""
    return digest.replace(":", "-")


def _insecure_registries() -> tuple[str, ...]:
    """Registries that Docker's configuration allows without TLS."""
    try:
        return plain.texts(plain.json_of(Path(_DAEMON).read_text(encoding="utf-8")), "insecure-registries") or ()
    except (OSError, UnicodeDecodeError):
        return ()
