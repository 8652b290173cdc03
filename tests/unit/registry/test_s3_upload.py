"""Files in S3 are whole or not there, whatever happens on the way, and no part is left without an object."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlship.errors import CheckFailed, TransientError, UsageError
from mlship.registry.s3 import opened_bucket
from mlship.registry.s3_settings import s3_bucket
from mlship.registry.s3_upload import PART_BYTES, part_size, put_file
from tests.helpers.patience import limit
from tests.helpers.s3_proxy import S3Fault, S3Faults, S3Request, s3_proxy
from tests.helpers.s3_server import KEYS, s3_server
from tests.helpers.trained import trained

PART = 1000
DATA = bytes(range(256)) * 14  # 3584 bytes: three whole parts and one of 584
ABORT = "AbortMultipartUpload"
NUMBERS = itertools.count()
PASSING = {
    "503": S3Fault(503, "<Error><Code>SlowDown</Code></Error>"),
    "500": S3Fault(500, "<Error><Code>InternalError</Code></Error>"),
    "429": S3Fault(429),
    "timeout": S3Fault(400, "<Error><Code>RequestTimeout</Code></Error>"),
    "200": S3Fault(200, '\n  <Error xmlns=""><Code>InternalError</Code></Error>'),
    "reset": S3Fault(reset=True),
    "lost": S3Fault(lost=True),
}


@dataclass
class Uploads:
    """A bucket: files go through a proxy, and `stored` asks the server itself."""

    server: str
    faults: S3Faults
    folder: Path

    def file(self, data: bytes = DATA) -> Path:
        path = self.folder / f"file{next(NUMBERS)}"
        path.write_bytes(data)
        return path

    def put(self, path: Path, key: str = "", seen: Callable[[int, int], None] = lambda _done, _total: None) -> bool:
        with opened_bucket("models") as bucket:
            return put_file(bucket, key or path.name, path, sha256(path.read_bytes()).hexdigest(), seen)

    def stored(self, key: str) -> bytes | None:
        bucket = s3_bucket("models", {**KEYS, "AWS_ENDPOINT_URL": self.server})
        answer = requests.get(bucket.url(key), headers=bucket.signed("GET", bucket.url(key)), timeout=limit(10))
        assert answer.status_code in {200, 404}
        return None if answer.status_code == 404 else answer.content

    def unfinished(self) -> int:
        return requests.get(f"{self.server}/models?uploads", timeout=limit(10)).text.count("<Upload>")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def uploads(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    monkeypatch.setattr("mlship.registry.s3_upload.PART_BYTES", PART)
    monkeypatch.setattr("mlship.registry.s3._PAUSE", 0.01)
    monkeypatch.setattr("mlship.registry.s3._LONGEST_PAUSE", 0.02)
    monkeypatch.setattr("mlship.registry.s3._PATIENCE", 0.5)
    monkeypatch.setattr("mlship.registry.s3_upload._ABORT_SECONDS", 0.1)
    with s3_proxy(server) as (address, faults):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        yield Uploads(server, faults, tmp_path)


def once(verb: str, fault: S3Fault) -> Callable[[S3Request], S3Fault | None]:
    return lambda request: fault if (request.verb, request.nth) == (verb, 0) else None


def always(verb: str, fault: S3Fault) -> Callable[[S3Request], S3Fault | None]:
    return lambda request: fault if request.verb == verb else None


@given(st.integers(0, 10_000 * (5 << 30)))
@example(PART_BYTES * 10_000)
@example(PART_BYTES * 10_000 + 1)
def test_parts_are_within_the_limits_of_s3(size: int) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html."""
    part = part_size(size)
    assert 5 << 20 <= part <= 5 << 30
    assert -(-size // part) <= 10_000
    assert (part == 64 << 20) == (size <= 625 << 30)  # as documented; a part is in memory


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(200, 3000))
@example(0, 1000)
@example(1000, 1000)
@example(1001, 1000)
@example(2000, 1000)
def test_any_size_and_part(uploads: Uploads, size: int, part: int) -> None:
    """The object has the bytes of the file; all parts but the last are equal, as some stores require."""
    uploads.faults.seen.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlship.registry.s3_upload.PART_BYTES", part)
        path, seen = uploads.file(os.urandom(size)), list[tuple[int, int]]()
        assert uploads.put(path, seen=lambda done, total: seen.append((done, total)))
    assert uploads.stored(path.name) == path.read_bytes()
    sizes = [request.size for request in uploads.faults.seen if request.verb.startswith("UploadPart")]
    expected = [] if size <= part else [min(part, size - start) for start in range(0, size, part)]
    assert sizes == expected
    assert seen == [(done, size) for done in itertools.accumulate(expected)]
    assert uploads.faults.verbs("PutObject") == ([] if expected else ["PutObject"])
    assert uploads.unfinished() == 0


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("verb", ["CreateMultipartUpload", "UploadPart 2", "UploadPart 4", "CompleteMultipartUpload"])
def test_a_failure_that_passes(uploads: Uploads, verb: str, fault: S3Fault) -> None:
    uploads.faults.fault = once(verb, fault)
    path = uploads.file()
    left = uploads.unfinished()
    assert uploads.put(path)
    assert uploads.stored(path.name) == DATA
    assert uploads.faults.verbs().count(verb) == 2
    if (verb, fault.lost) == ("CreateMultipartUpload", True):  # the first one has no parts, so it costs nothing
        left += 1
    assert uploads.unfinished() == left


@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        *itertools.product(
            ["CreateMultipartUpload", "UploadPart 2", "CompleteMultipartUpload"],
            [PASSING["503"], PASSING["200"], PASSING["reset"]],
        ),
        ("UploadPart 2", S3Fault(flip=True)),
        ("CompleteMultipartUpload", S3Fault(flip=True)),
    ],
    ids=str,
)
def test_a_failure_that_stays(uploads: Uploads, verb: str, fault: S3Fault) -> None:
    """It ends in time; no object and no part is left. A byte that changes on the way is such a failure."""
    uploads.faults.fault = always(verb, fault)
    path, left, start = uploads.file(), uploads.unfinished(), time.monotonic()
    with pytest.raises(TransientError):
        uploads.put(path)
    assert time.monotonic() - start < limit(5)
    assert uploads.faults.verbs().count(verb) > 2
    assert (uploads.stored(path.name), uploads.unfinished()) == (None, left)


@pytest.mark.parametrize("verb", ["CreateMultipartUpload", "UploadPart 3", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (S3Fault(403, "<Error><Code>AccessDenied</Code></Error>"), "access is denied"),
        (S3Fault(501, "<Error><Code>NotImplemented</Code></Error>"), "the store does not support the request"),
        (S3Fault(200, "<html>Sign in</html>"), "has no ETag|not an answer of S3"),
        (S3Fault(200, "<InitiateMultipartUploadResult/>"), "has no UploadId|has no ETag|not an answer of S3"),
    ],
)
def test_a_refusal(uploads: Uploads, verb: str, fault: S3Fault, message: str) -> None:
    """It is not tried again, and no part is left."""
    uploads.faults.fault = always(verb, fault)
    path, left = uploads.file(), uploads.unfinished()
    with pytest.raises(UsageError, match=message):
        uploads.put(path)
    assert uploads.faults.verbs().count(verb) == 1
    assert (uploads.stored(path.name), uploads.unfinished()) == (None, left)


def test_an_object_that_exists_is_not_sent_again(uploads: Uploads) -> None:
    path = uploads.file()
    assert uploads.put(path, "there")
    uploads.faults.seen.clear()
    assert not uploads.put(uploads.file(b"x" * 5000), "there")
    assert uploads.faults.verbs() == ["HeadObject"]
    assert uploads.stored("there") == DATA


def test_another_writer_is_first(uploads: Uploads) -> None:
    """Between the first part and the last request; the slower writer leaves nothing."""
    mine, other, left = uploads.file(), uploads.file(b"other" * 500), uploads.unfinished()

    def seen(done: int, total: int) -> None:
        if done == total:
            assert uploads.put(other, "one")

    assert not uploads.put(mine, "one", seen)
    assert uploads.stored("one") == b"other" * 500
    assert uploads.unfinished() == left


def test_the_answer_is_lost_and_the_upload_is_gone(uploads: Uploads, capsys: pytest.CaptureFixture[str]) -> None:
    """The object exists, and who made it is open: the caller compares it."""
    gone = S3Fault(404, "<Error><Code>NoSuchUpload</Code></Error>")
    lost = {("CompleteMultipartUpload", 0): S3Fault(lost=True), ("CompleteMultipartUpload", 1): gone, (ABORT, 0): gone}
    uploads.faults.fault = lambda request: lost.get((request.verb, request.nth))
    path, left = uploads.file(), uploads.unfinished()
    assert not uploads.put(path)
    assert (uploads.stored(path.name), uploads.unfinished()) == (DATA, left)
    assert capsys.readouterr().err == ""  # S3 does not know the upload any more, so no part is left


def test_an_answer_after_spaces(uploads: Uploads) -> None:
    """S3 keeps the connection alive so while it makes an object of many parts."""
    uploads.faults.fault = always("CompleteMultipartUpload", S3Fault(spaces=" \n "))
    assert uploads.put(uploads.file())


def test_the_name_of_an_upload_may_have_any_character(uploads: Uploads) -> None:
    body = "<InitiateMultipartUploadResult><UploadId>a/b+c=&amp;%20</UploadId></InitiateMultipartUploadResult>"
    gone = S3Fault(404, "<Error><Code>NoSuchUpload</Code></Error>")
    uploads.faults.fault = lambda request: S3Fault(200, body) if request.verb == "CreateMultipartUpload" else gone
    with pytest.raises(UsageError, match="NoSuchUpload"):
        uploads.put(uploads.file())
    found = {request.verb: request.query["uploadId"] for request in uploads.faults.seen if "uploadId" in request.query}
    assert found == {"UploadPart 1": "a/b+c=&%20", ABORT: "a/b+c=&%20"}


@pytest.mark.parametrize("size", [500, 3584])
def test_a_file_that_changes_meanwhile(uploads: Uploads, size: int) -> None:
    path, left = uploads.file(DATA[:size]), uploads.unfinished()
    with opened_bucket("models") as bucket, pytest.raises(CheckFailed, match="changed while it was uploaded"):
        put_file(bucket, path.name, path, sha256(b"before").hexdigest(), lambda _done, _total: None)
    assert (uploads.stored(path.name), uploads.unfinished()) == (None, left)


def test_parts_that_cannot_be_removed(uploads: Uploads, capsys: pytest.CaptureFixture[str]) -> None:
    """The user learns of them, and how to remove them."""
    uploads.faults.fault = lambda request: PASSING["503"] if request.verb in {"UploadPart 2", ABORT} else None
    with pytest.raises(TransientError, match="SlowDown"):
        uploads.put(uploads.file())
    text = " ".join(capsys.readouterr().err.split())
    assert "warning: parts of an upload remain in S3" in text
    assert "run `aws s3api abort-multipart-upload --bucket models --key file" in text


@pytest.mark.slow
def test_a_slow_connection(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is for a block, not for a part."""
    monkeypatch.setattr("mlship.registry.s3.TIMEOUT", (limit(0.3), limit(10)))
    monkeypatch.setattr("mlship.registry.s3_upload.PART_BYTES", 12 << 20)
    uploads.faults.pause = limit(0.1)  # for each MiB
    path = uploads.file(bytes(13 << 20))
    assert uploads.put(path)
    assert uploads.faults.verbs("UploadPart") == ["UploadPart 1", "UploadPart 2"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c(uploads: Uploads, number: signal.Signals) -> None:
    """In the middle of a part: no version, no object, no part."""
    repo, left = trained(uploads.folder / "repo"), uploads.unfinished()
    uploads.faults.fault = always("UploadPart 2", S3Fault(seconds=5))
    code = "import sys, mlship.registry.s3_upload as u; u.PART_BYTES = 100; from mlship.__main__ import main; main()"
    argv = [sys.executable, "-c", code, "register", "--store", f"s3://models/{uploads.folder.name}"]
    with subprocess.Popen(argv, cwd=repo, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + limit(30)
        while "UploadPart 2" not in uploads.faults.verbs() and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(number)
        error = run.communicate(timeout=limit(30))[1]
    assert run.returncode == 130, error
    assert error.startswith("uploading model")
    assert "interrupted" in error
    assert uploads.faults.verbs(ABORT)
    assert uploads.unfinished() == left
    assert not [verb for verb in uploads.faults.verbs() if verb == "CompleteMultipartUpload"]
