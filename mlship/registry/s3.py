"""Objects in S3: requests signed with Signature Version 4, and writes that never replace an object.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import os
import random
import re
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from configparser import ConfigParser, Error
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from mlship.errors import TransientError, UsageError
from mlship.known_texts import phrase

if TYPE_CHECKING:
    from requests import Response, Session

EMPTY_SHA256 = hashlib.sha256().hexdigest()
_TIMEOUT = (10, 60)  # seconds to connect or to send a block, and between bytes of an answer
_PATIENCE = 90.0  # seconds after its first failure in which a write is tried again
_PAUSE = 0.5  # seconds before the second try; then twice as long each time, up to the longest
_LONGEST_PAUSE = 20.0
# Of HTTP 400: the request did not arrive as it was sent.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
_DAMAGED = {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
_EXPORT = 'run `eval "$(aws configure export-credentials --format env)"`, or set AWS_ACCESS_KEY_ID and its secret'


@dataclass(frozen=True)
class AwsKeys:
    """Credentials of AWS; `token` is that of a session, else empty."""

    access: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class S3Bucket:
    """Where a bucket answers.

    Attributes:
        base: URL of the bucket, without a final slash.
        keys: None for requests without a signature, which public buckets answer.
    """

    base: str
    region: str
    keys: AwsKeys | None

    def url(self, key: str) -> str:
        return f"{self.base}/{quote(key, safe='/-._~')}"

    def signed(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        sha256: str = EMPTY_SHA256,
    ) -> dict[str, str]:
        """The headers of a request, with its signature.

        Args:
            sha256: of the body, in hex.
        """
        wanted = dict(headers or {})
        if self.keys is None:
            return wanted
        return signature(method, url, self.keys, self.region, {**wanted, "x-amz-content-sha256": sha256})


def s3_bucket(name: str, environment: Mapping[str, str] = os.environ) -> S3Bucket:
    """A bucket, with the settings that AWS's own programs read: variables, then the profile of ~/.aws.

    https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html
    """
    profile = _profile(environment)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or profile.get("region")
    region = region or "us-east-1"
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or profile.get("endpoint_url")
    if endpoint:
        base = f"{endpoint.rstrip('/')}/{name}"
    elif "." in name:  # which no certificate of a host name covers
        base = f"https://s3.{region}.amazonaws.com/{name}"
    else:
        base = f"https://{name}.s3.{region}.amazonaws.com"
    found = environment if "AWS_ACCESS_KEY_ID" in environment else {k.upper(): v for k, v in profile.items()}
    access, secret = found.get("AWS_ACCESS_KEY_ID"), found.get("AWS_SECRET_ACCESS_KEY")
    keys = AwsKeys(access, secret, found.get("AWS_SESSION_TOKEN", "")) if access and secret else None
    return S3Bucket(base, region, keys)


def _profile(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The keys of AWS_PROFILE in both files; empty without them."""
    name = environment.get("AWS_PROFILE") or "default"
    home = Path(environment.get("HOME") or Path.home())
    found: dict[str, str] = {}
    for path, section in (
        (environment.get("AWS_CONFIG_FILE") or home / ".aws/config", name if name == "default" else f"profile {name}"),
        (environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials", name),
    ):
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (Error, UnicodeDecodeError) as error:
            raise UsageError(f"`{path}` is not a configuration file of AWS", hint="correct or remove it") from error
        found |= dict(parser[section]) if parser.has_section(section) else {}
    return found


def signature(
    method: str, url: str, keys: AwsKeys, region: str, headers: Mapping[str, str], now: datetime | None = None
) -> dict[str, str]:
    """The headers of a request with its signature, which covers all of them.

    Args:
        headers: with the hash of the body as `x-amz-content-sha256`.
    """
    parts, time = urlsplit(url), (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    token = {"x-amz-security-token": keys.token} if keys.token else {}
    sent = {**headers, "x-amz-date": time, **token}
    lines = {name.lower(): value.strip() for name, value in {**sent, "host": parts.netloc}.items()}
    names = ";".join(sorted(lines))
    query = "&".join(sorted(parts.query.split("&")))
    listed = "".join(f"{name}:{lines[name]}\n" for name in sorted(lines))
    request = f"{method}\n{parts.path}\n{query}\n{listed}\n{names}\n{headers['x-amz-content-sha256']}"
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}"
    return {**sent, "Authorization": f"{credential}, SignedHeaders={names}, Signature={proof}"}


class S3Objects:
    """The objects of one bucket, which has this `name`.

    Every verb raises TransientError if S3 does not answer, and UsageError if it refuses.
    """

    def __init__(self, name: str, session: "Session") -> None:
        self.name = name
        self._bucket = s3_bucket(name)
        self._session = session

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        answer = self._ask("HEAD", self._bucket.url(key))
        self.expect(answer, {200, 404})
        return answer.status_code == 200

    def read(self, key: str) -> Iterator[bytes] | None:
        """The bytes of an object as they arrive; None if there is none."""
        answer = self._ask("GET", self._bucket.url(key), stream=True)
        with self._connection():
            if answer.status_code == 404 and "NoSuchKey" in answer.text:
                return None
            if answer.status_code != 200:
                raise self._refusal(answer)
        return self._parts(answer)

    def put_new(self, key: str, data: bytes) -> bool:
        """Create an object with one request; False, and nothing is changed, if it exists.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        answer = self.write("PUT", key, "", data, {"If-None-Match": "*"})
        self.expect(answer, {200, 412})
        return answer.status_code == 200

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that begin with a prefix, in their order."""
        more = ""
        while True:
            query = f"list-type=2&prefix={quote(prefix, safe='')}"
            query = f"continuation-token={quote(more, safe='')}&{query}" if more else query
            answer = self._ask("GET", f"{self._bucket.base}/?{query}")
            found = self.document(answer, "ListBucketResult")
            yield from (key.text or "" for key in found.iterfind("{*}Contents/{*}Key"))
            more = found.findtext("{*}NextContinuationToken") or ""
            if not more:
                return

    def write(
        self,
        method: Literal["PUT", "POST", "DELETE"],
        key: str,
        query: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> "Response":
        """The answer to a request that changes an object; failures that may pass are tried again.

        S3 refuses the request if the bytes that arrive do not have the hash of `data`, which is signed.

        Args:
            patience: seconds after the first failure in which the request is sent again. [default: 90]
        """
        url = f"{self._bucket.url(key)}{f'?{query}' if query else ''}"
        sha256 = hashlib.sha256(data).hexdigest()
        give_up, pause = 0.0, _PAUSE
        while True:
            try:
                answer = self._ask(method, url, headers, sha256, data)
                if answer.status_code >= 400 or _is_error(answer):
                    error = self._refusal(answer)
                    if isinstance(error, TransientError):
                        raise error
            except TransientError:
                give_up = give_up or time.monotonic() + (_PATIENCE if patience is None else patience)
                if time.monotonic() + pause > give_up:
                    raise
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  so that two writers do not meet again
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return answer

    def document(self, answer: "Response", name: str) -> ET.Element:
        """The XML document of an answer, whose root must have this name."""
        self.expect(answer, {200})
        try:
            # S3 sends spaces as long as it works on the answer. expat limits expansion, and S3 answers over TLS.
            found = ET.fromstring(answer.content.strip())  # noqa: S314
            if found.tag.rpartition("}")[2] == name:
                return found
        except ET.ParseError:
            pass
        raise UsageError(f"`s3://{self.name}`: not an answer of S3", hint="check AWS_ENDPOINT_URL")

    def expect(self, answer: "Response", statuses: Collection[int]) -> None:
        """Refuse an answer with another status, or with an error in its body."""
        if answer.status_code not in statuses or _is_error(answer):
            raise self._refusal(answer)

    def _ask(
        self,
        method: Literal["GET", "HEAD", "PUT", "POST", "DELETE"],
        url: str,
        headers: Mapping[str, str] | None = None,
        sha256: str = EMPTY_SHA256,
        data: bytes = b"",
        *,
        stream: bool = False,
    ) -> "Response":
        """Send a request. The time limit is for each send, so a body is sent in blocks."""
        with self._connection():
            signed = self._bucket.signed(method, url, headers, sha256)
            body = BytesIO(data) if data else b""
            return self._session.request(method, url, headers=signed, data=body, timeout=_TIMEOUT, stream=stream)

    def _parts(self, answer: "Response") -> Iterator[bytes]:
        with self._connection():
            yield from answer.iter_content(1 << 20)

    def _refusal(self, answer: "Response") -> TransientError | UsageError:
        return s3_refusal(f"`s3://{self.name}`", answer.status_code, answer.text, answer.headers)

    @contextmanager
    def _connection(self) -> Iterator[None]:
        from requests import RequestException

        try:
            yield
        except RequestException as error:
            message = f"`s3://{self.name}`: {urlsplit(self._bucket.base).netloc} does not answer"
            raise TransientError(f"{message} ({type(error).__name__})", hint=phrase("try_again")) from error


def _is_error(answer: "Response") -> bool:
    """Whether an answer with status 200 says that the request failed after all.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    return answer.status_code == 200 and re.search(rb"<Error[\s>]", answer.content) is not None


def s3_refusal(where: str, status: int, text: str, headers: Mapping[str, str]) -> TransientError | UsageError:
    """What an answer of S3 that is no success means."""
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    code = found[1] if found else ""
    why = f"HTTP {status}{f', {code}' if code else ''}"
    if status == 501:
        hint = "use a store with this part of the S3 API, a registry (`oci://`) or a folder"
        return UsageError(f"{where}: the store does not support the request ({why})", hint=hint)
    if status in {200, 408, 409, 425, 429} or status >= 500 or code in _DAMAGED:
        return TransientError(f"{where}: S3 answered {why}", hint=phrase("try_again"))
    region = headers.get("x-amz-bucket-region")
    if status in {301, 307, 400} and region:
        return UsageError(f"{where}: the bucket is in another region ({why})", hint=f"set `AWS_REGION={region}`")
    if status in {401, 403}:
        return UsageError(f"{where}: access is denied ({why})", hint=_EXPORT)
    return UsageError(f"{where}: S3 refused the request ({why})", hint="check the bucket's name and AWS_REGION")


@contextmanager
def opened_bucket(name: str) -> Iterator[S3Objects]:
    """The objects of a bucket."""
    import requests

    with requests.Session() as session:
        session.verify = session.verify and (ssl.get_default_verify_paths().cafile or True)
        yield S3Objects(name, session)
