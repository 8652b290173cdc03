"""Objects in S3: writes never replace an object, and every answer that is no success is an error."""

import hashlib
import html
import random
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.known_texts import first_match, phrase
from mlship.registry.client import TIMEOUT, http_session
from mlship.registry.s3_settings import EMPTY_SHA256, s3_bucket

if TYPE_CHECKING:
    from requests import Response, Session

_PATIENCE = 90.0  # seconds after its first failure in which a write is tried again
_PAUSE = 0.5  # seconds before the second try; then twice as long each time, up to the longest
_LONGEST_PAUSE = 20.0
_EXPIRED = "<Code>ExpiredToken</Code>"


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
            before, more = more, found.findtext("{*}NextContinuationToken") or ""
            if more in {"", before} and found.findtext("{*}IsTruncated") == "true":
                hint = "use a store that has ListObjectsV2, a registry (`oci://`) or a folder"
                raise UsageError(f"`s3://{self.name}`: the store lists only its first objects", hint=hint)
            if more in {"", before}:
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

    def _renew(self) -> bool:
        """Read the keys again; whether they are others, as after a login during a long upload."""
        before = self._bucket.keys
        self._bucket = replace(self._bucket, keys=s3_bucket(self.name).keys)
        return self._bucket.keys != before

    def document(self, answer: "Response", name: str) -> ET.Element:
        """The XML document of an answer, whose root must have this name."""
        self.expect(answer, {200})
        try:
            # S3 sends spaces as long as it works on the answer. Over plain HTTP, anyone may have sent it:
            # expat limits the expansion of entities (since 2.4.1), and ElementTree loads no external ones.
            # https://docs.python.org/3/library/xml.html#xml-security
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
        """Send a request; the signature is for one host, so no redirect is followed.

        The time limit is for each send, so a body is sent in blocks.
        """
        with self._connection():
            while True:
                signed = self._bucket.signed(method, url, headers, sha256)
                body = BytesIO(data) if data else b""
                answer = self._session.request(
                    method, url, headers=signed, data=body, timeout=TIMEOUT, stream=stream, allow_redirects=False
                )
                # An answer to HEAD has no body, so it does not say why.
                refused = answer.status_code in {400, 403} and (method == "HEAD" or _EXPIRED in answer.text)
                if not (refused and self._renew()):
                    return answer

    def _parts(self, answer: "Response") -> Iterator[bytes]:
        with self._connection():
            yield from answer.iter_content(1 << 20)

    def _refusal(self, answer: "Response") -> MlshipError:
        return s3_refusal(f"`s3://{self.name}`", answer.status_code, answer.text, answer.headers)

    @contextmanager
    def _connection(self) -> Iterator[None]:
        from requests import RequestException

        try:
            yield
        except RequestException as error:
            message = f"`s3://{self.name}`: {urlsplit(self._bucket.base).netloc} does not answer"
            raise TransientError(f"{message} ({type(error).__name__})", hint=phrase("check_network")) from error


def _is_error(answer: "Response") -> bool:
    """Whether an answer with status 200 says that the request failed after all.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    return answer.status_code == 200 and re.search(rb"<Error[\s>]", answer.content) is not None


def s3_refusal(where: str, status: int, text: str, headers: Mapping[str, str]) -> MlshipError:
    """What an answer of S3 that is no success means."""
    code, message = _element(text, "Code"), _element(text, "Message")
    reply = ": ".join(filter(None, (f"HTTP {status}{f', {code}' if code else ''}", message)))
    region = headers.get("x-amz-bucket-region") or _element(text, "Region")
    target = urlsplit(headers.get("Location", "")).netloc
    if known := first_match(f"{reply}\nregion: {region}\nlocation: {target}", "s3"):
        return known.as_error(where=where, reply=reply)
    return UsageError(f"{where}: S3 refused the request ({reply})", hint="check the bucket's name and AWS_REGION")


def _element(text: str, name: str) -> str:
    """The text of an element of an error, in one line; empty without one."""
    found = re.search(rf"<{name}>([^<]{{1,300}})</{name}>", text)
    return " ".join(html.unescape(found[1]).split()) if found else ""


@contextmanager
def opened_bucket(name: str) -> Iterator[S3Objects]:
    """The objects of a bucket."""
    with http_session() as session:
        yield S3Objects(name, session)
