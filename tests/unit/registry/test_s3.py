"""Requests to S3 have the signatures that AWS documents, and a real S3 API accepts them."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from mlship.errors import TransientError, UsageError
from mlship.registry.s3 import S3Objects, opened_bucket, s3_refusal
from mlship.registry.s3_settings import EMPTY_SHA256, AwsKeys, S3Bucket, s3_bucket
from tests.helpers.s3_server import KEYS, s3_server

# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
DOCUMENTED = AwsKeys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
PLACE = S3Bucket("https://examplebucket.s3.amazonaws.com", "us-east-1", DOCUMENTED)
NOW = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def _here(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _documented(method: str, url: str, headers: dict[str, str], sha: str) -> str:
    return S3Bucket("", "us-east-1", DOCUMENTED).signed(method, url, headers, sha, NOW)["Authorization"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "sha", "proof"),
    [
        ("GET", "test.txt", {"Range": "bytes=0-9"}, EMPTY_SHA256, "f0e8bdb87c964420"),
        (
            "PUT",
            "test$file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            sha256(b"Welcome to Amazon S3."),
            "98ad721746da40c6",
        ),
    ],
)
def test_the_documented_signatures(method: str, path: str, headers: dict[str, str], sha: str, proof: str) -> None:
    found = _documented(method, PLACE.url(path), headers, sha)
    assert f"Signature={proof}" in found
    assert found.startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request")


def test_the_documented_signature_of_a_listing() -> None:
    found = _documented("GET", f"{PLACE.base}/?prefix=J&max-keys=2", {}, EMPTY_SHA256)
    assert "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" in found


def test_botocore_computes_the_same_signature_with_a_session_token() -> None:
    """The program that AWS maintains, for what its documents have no example of."""
    bucket = S3Bucket("https://h.example:9000/b", "eu-west-1", AwsKeys("AK", "secret", "session"))
    url = bucket.url("a b/ü+$&=~.bin")
    ours = bucket.signed("PUT", url, {"If-None-Match": "*"}, sha256(b"x"))
    request = AWSRequest("PUT", url, headers={"If-None-Match": "*"}, data=b"x")
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Content-SHA256"] = sha256(b"x")
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    request.headers["X-Amz-Security-Token"] = "session"
    signer = S3SigV4Auth(Credentials("AK", "secret", "session"), "s3", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert ours["Authorization"].endswith(f"Signature={signer.signature(text, request)}")


@pytest.mark.usefixtures("_here")
def test_an_object_is_created_once() -> None:
    key, data = "a b/$+é&=~.bin", b"weights" * 1000
    with opened_bucket("models") as bucket:
        assert bucket.put_new(key, data)
        assert not bucket.put_new(key, b"other")
        assert b"".join(bucket.read(key) or ()) == data
        assert list(bucket.keys("a b/")) == [key]
        assert bucket.read("a b/other") is None


@pytest.mark.slow
@pytest.mark.usefixtures("_here")
def test_a_listing_of_several_pages() -> None:
    names = [f"pages/{number:04}" for number in range(1001)]  # S3 lists 1000 at a time
    with opened_bucket("models") as bucket:
        for name in names:
            bucket.put_new(name, b"")
        assert list(bucket.keys("pages/")) == names


@pytest.mark.usefixtures("_here")
def test_a_bucket_that_does_not_exist() -> None:
    with opened_bucket("other") as bucket, pytest.raises(UsageError, match="NoSuchBucket"):
        bucket.read("key")


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with opened_bucket("models") as bucket, pytest.raises(TransientError, match="does not answer"):
        bucket.read("key")


@pytest.mark.parametrize(
    ("status", "text", "headers", "kind", "hint"),
    [
        (403, "<Code>AccessDenied</Code>", {}, UsageError, "aws configure export-credentials"),
        (301, "<Code>PermanentRedirect</Code>", {"x-amz-bucket-region": "eu-west-1"}, UsageError, "AWS_REGION=eu-west"),
        (503, "<Code>SlowDown</Code>", {}, TransientError, "again"),
        (409, "<Code>ConditionalRequestConflict</Code>", {}, TransientError, "again"),
    ],
)
def test_refusals(status: int, text: str, headers: dict[str, str], kind: type[Exception], hint: str) -> None:
    found = s3_refusal("`s3://models`", status, text, headers)
    assert isinstance(found, kind)
    assert f"HTTP {status}, " in found.message
    assert hint in found.hint


def test_places_of_buckets(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert s3_bucket("models", home) == S3Bucket("https://models.s3.us-east-1.amazonaws.com", "us-east-1", None)
    assert s3_bucket("a.b", {**home, "AWS_REGION": "eu-west-1"}).base == "https://s3.eu-west-1.amazonaws.com/a.b"
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[profile ci]\nregion = eu-north-1\n[default]\nregion = eu-west-3\n")
    (tmp_path / ".aws/credentials").write_text("[ci]\naws_access_key_id = AK\naws_secret_access_key = a%b\n")
    found = s3_bucket("models", {**home, "AWS_PROFILE": "ci"})
    assert (found.region, found.keys) == ("eu-north-1", AwsKeys("AK", "a%b"))
    assert "a%b" not in repr(found)
    assert s3_bucket("models", {**home, **KEYS, "AWS_PROFILE": "ci"}).keys == AwsKeys("testing", "testing")
    (tmp_path / ".aws/credentials").write_text("no section")
    with pytest.raises(UsageError, match="not a configuration file of AWS"):
        s3_bucket("models", home)


@pytest.mark.parametrize(
    ("variables", "files", "said"),
    [
        (
            {"AWS_PROFILE": "cii"},
            {"config": "[profile ci]\nregion = eu-west-1\n"},
            ("no `[profile cii]`", ".aws/config"),
        ),
        ({"AWS_PROFILE": "cii"}, {"credentials": "[ci]\n"}, ("no `[cii]`", ".aws/credentials")),
        ({"AWS_PROFILE": "cii", **KEYS}, {}, ("no `[cii]`",)),
        ({"AWS_PROFILE": "default"}, {}, ("no `[default]`",)),
        ({"AWS_ACCESS_KEY_ID": "AK"}, {}, ("the environment", "without `AWS_SECRET_ACCESS_KEY`")),
        ({"AWS_SECRET_ACCESS_KEY": "SK"}, {}, ("the environment", "without `AWS_ACCESS_KEY_ID`")),
        ({}, {"credentials": "[default]\naws_access_key_id = AK\n"}, ("~/.aws", "without `AWS_SECRET_ACCESS_KEY`")),
    ],
)
def test_half_of_the_credentials_is_no_reason_to_ask_without_a_signature(
    variables: dict[str, str], files: dict[str, str], said: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    for name, text in files.items():
        (tmp_path / ".aws" / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        s3_bucket("models", {"HOME": str(tmp_path), **variables})
    assert all(each in caught.value.message for each in said)
    assert "SK" not in caught.value.message


def test_a_secret_beside_a_whole_profile_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = AK\naws_secret_access_key = b\n")
    found = s3_bucket(
        "models", {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_SECRET_ACCESS_KEY": "other"}
    )
    assert found.keys == AwsKeys("AK", "b")


def test_an_answer_whose_entities_expand_without_end_is_refused() -> None:
    from requests import Response, Session

    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 1000}">' for n in range(9))
    answer = Response()
    answer.status_code, answer._content = (
        200,
        f"<!DOCTYPE a [{entities}]><ListBucketResult>&e8;</ListBucketResult>".encode(),
    )
    with pytest.raises(UsageError, match="not an answer of S3"):
        S3Objects("models", Session()).document(answer, "ListBucketResult")
