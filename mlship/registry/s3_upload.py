"""Files of any size in S3: large ones are sent in parts, and no object exists before all of them are there.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from mlship.console import warn
from mlship.errors import CheckFailed, MlshipError, TransientError, UsageError
from mlship.registry.s3 import S3Objects

PART_BYTES = 64 << 20  # each is in memory once, and sent again after a failure
MOST_PARTS = 10_000  # of one upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_ABORT_SECONDS = 15.0
_COMPLETE = '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</CompleteMultipartUpload>'


def part_size(size: int) -> int:
    """Bytes of each part, but the last, of a file that has `size` bytes."""
    return max(PART_BYTES, -(-size // MOST_PARTS))


def put_file(bucket: S3Objects, key: str, file: Path, sha256: str, progress: Callable[[int, int], None]) -> bool:
    """Create an object from a file; False, and nothing is changed, if it exists.

    Args:
        sha256: of the file, in hex.
        progress: called with the bytes that S3 has and all bytes, if there are several parts.

    Raises:
        CheckFailed: the file has other bytes.
        UsageError, TransientError: S3 refuses, or still does not answer after a while.
    """
    if bucket.exists(key):
        return False
    size = file.stat().st_size
    blocks = _blocks(file, sha256, part_size(size))
    if size > PART_BYTES:
        return _Upload(bucket, key).run(blocks, size, progress)
    return bucket.put_new(key, b"".join(blocks))


def _blocks(file: Path, sha256: str, count: int) -> Iterator[bytes]:
    """The bytes of a file in blocks.

    Raises:
        CheckFailed: all were read, and they are not those of the hash.
    """
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(count):
            hashed.update(block)
            yield block
    if hashed.hexdigest() != sha256:
        raise CheckFailed(f"`{file}` changed while it was uploaded", hint="train again, or find out who changed it")


class _Upload:
    """The upload of one object in parts."""

    def __init__(self, bucket: S3Objects, key: str) -> None:
        self._bucket = bucket
        self._key = key
        started = bucket.write("POST", key, "uploads=")
        self._id = bucket.document(started, "InitiateMultipartUploadResult").findtext("{*}UploadId") or ""
        if not self._id:  # without one, S3 would take a part for the object
            raise UsageError(f"`{key}`: the answer to the upload has no UploadId", hint="check AWS_ENDPOINT_URL")
        self._query = f"uploadId={quote(self._id, safe='')}"

    def run(self, blocks: Iterator[bytes], size: int, progress: Callable[[int, int], None]) -> bool:
        """Send all parts and make the object of them; whatever happens, no part is left without an object."""
        created = False
        try:
            rows, done = list[str](), 0
            for number, block in enumerate(blocks, 1):
                tag = self._send(number, block)
                rows.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>")
                done += len(block)
                progress(done, size)
            created = self._complete(_COMPLETE.format("".join(rows)).encode())
            return created
        finally:
            if not created:
                self._abort()

    def _send(self, number: int, block: bytes) -> str:
        """The tag that S3 gives a part."""
        answer = self._bucket.write("PUT", self._key, f"partNumber={number}&{self._query}", block)
        self._bucket.expect(answer, {200})
        tag = answer.headers.get("ETag")
        if not tag:
            raise UsageError(f"`{self._key}`: the answer to part {number} has no ETag", hint="check AWS_ENDPOINT_URL")
        return tag

    def _complete(self, rows: bytes) -> bool:
        """False if the object exists: another writer's, or this one's if S3's answer was lost."""
        try:
            answer = self._bucket.write("POST", self._key, self._query, rows, {"If-None-Match": "*"})
            self._bucket.document(answer, "CompleteMultipartUploadResult")
        except (TransientError, UsageError):
            if self._bucket.exists(self._key):
                return False
            raise
        return True

    def _abort(self) -> None:
        """S3 bills the parts until then. Nothing is left of an upload that is complete, or that S3 does not know."""
        try:
            answer = self._bucket.write("DELETE", self._key, self._query, patience=_ABORT_SECONDS)
            self._bucket.expect(answer, {200, 204, 404})
        except MlshipError as error:
            where = f"--bucket {self._bucket.name} --key {shlex.quote(self._key)} --upload-id {shlex.quote(self._id)}"
            warn(f"parts of an upload remain in S3 ({error.message}); run `aws s3api abort-multipart-upload {where}`")
