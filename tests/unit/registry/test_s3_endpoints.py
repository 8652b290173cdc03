"""Stores and settings that differ from AWS's defaults, as users of other programs reported them."""

import http.server
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mlship.errors import UsageError
from mlship.registry.s3 import opened_bucket, s3_refusal
from mlship.registry.s3_settings import AwsKeys, s3_bucket
from mlship.weights.download import download
from tests.helpers.local_http import served_by
from tests.helpers.s3_proxy import S3Fault, S3Faults, s3_proxy
from tests.helpers.s3_server import KEYS, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def faults(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Faults]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("mlship.registry.s3._PAUSE", 0.01)
    with s3_proxy(server) as (address, found):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        yield found


def error(code: str, message: str = "", more: str = "") -> str:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'


@pytest.mark.usefixtures("faults")
def test_a_password_in_netrc_does_not_replace_the_signature(tmp_path: Path) -> None:
    """requests puts it into the header of the signature: https://github.com/psf/requests/issues/3929."""
    (tmp_path / ".netrc").write_text("default login foo password bar\n")
    (tmp_path / ".netrc").chmod(0o600)
    with opened_bucket("models") as bucket:
        assert bucket.put_new("netrc", b"x")
    found, _ = download("s3://models/netrc", tmp_path / "cache", None, lambda *_: None)
    assert found.read_bytes() == b"x"


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    state: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.state.append(self.path)
        self.send_response(200)
        self.end_headers()


def test_a_redirect_is_not_followed(faults: S3Faults, tmp_path: Path) -> None:
    """The signature is for one host. A new bucket of another region redirects until its name is known everywhere."""
    asked: list[str] = []
    with served_by(_Elsewhere, asked) as host:
        faults.fault = lambda _request: S3Fault(307, error("TemporaryRedirect"), location=f"http://{host}/x")
        with opened_bucket("models") as bucket:
            for use in (lambda: bucket.put_new("a", b"x"), lambda: bucket.read("a"), lambda: bucket.exists("a")):
                with pytest.raises(UsageError, match=f"redirects to `{host}`") as caught:
                    use()
                assert "AWS_REGION" in caught.value.hint
        with pytest.raises(UsageError, match=f"redirects to `{host}`"):
            download("s3://models/a", tmp_path / "cache", None, lambda *_: None)
    assert asked == []


@pytest.fixture
def renewed(faults: S3Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A profile with an expired token; the call is a new login."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (tmp_path / ".aws").mkdir()
    profile = "[default]\naws_access_key_id = testing\naws_secret_access_key = testing\naws_session_token = {}\n"
    (tmp_path / ".aws/credentials").write_text(profile.format("old"))
    faults.fault = lambda request: S3Fault(400, error("ExpiredToken")) if request.token == "old" else None

    def renew() -> None:
        (tmp_path / ".aws/credentials").write_text(profile.format("new"))

    return renew


def test_credentials_that_are_renewed_meanwhile(renewed: Callable[[], None]) -> None:
    """Of a long upload: https://github.com/aws/aws-cli/issues/4562."""
    with opened_bucket("models") as bucket:
        with pytest.raises(UsageError, match="credentials have expired") as caught:
            bucket.put_new("renewed", b"x")
        assert "export-credentials" in caught.value.hint
        renewed()
        assert bucket.put_new("renewed", b"x")


@pytest.mark.parametrize("verb", ["HEAD", "GET", "LIST"])
def test_credentials_that_are_renewed_before_a_question(renewed: Callable[[], None], verb: str) -> None:
    with opened_bucket("models") as bucket:
        renewed()
        if verb == "HEAD":
            assert not bucket.exists("absent")
        elif verb == "GET":
            assert bucket.read("absent") is None
        else:
            assert list(bucket.keys("absent/")) == []


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>x</NextContinuationToken>"])
def test_a_store_that_does_not_continue_a_listing(faults: S3Faults, token: str) -> None:
    """As old ones, which ignore `list-type=2`: what is missing must not look absent."""
    body = "<ListBucketResult><Contents><Key>a</Key></Contents><IsTruncated>true</IsTruncated></ListBucketResult>"
    body = body.replace("<IsTruncated>", f"{token}<IsTruncated>")
    faults.fault = lambda _request: S3Fault(200, body)
    with opened_bucket("models") as bucket, pytest.raises(UsageError, match="lists only its first objects"):
        list(bucket.keys(""))


@pytest.mark.parametrize(
    ("status", "text", "message", "hint"),
    [
        (400, error("AuthorizationHeaderMalformed", "", "<Region>fr-par</Region>"), "in another region", "=fr-par`"),
        (400, error("AuthorizationHeaderMalformed", "", "<Region>$(x)</Region>"), "refused", "AWS_REGION"),
        (400, error("ExpiredToken"), "credentials have expired", "export-credentials"),
        (403, error("RequestTimeTooSkewed"), "clock of this machine", "timedatectl"),
        (403, error("InvalidObjectState"), "archived", "restore-object"),
        (403, error("SecondLevelDomainForbidden"), "bucket in the host name", "addressing_style = virtual"),
        (403, error("PathStyleDomainForbidden"), "bucket in the host name", "addressing_style = virtual"),
        (403, error("AccessDenied", "explicit deny in a resource-based policy"), "explicit deny in a", "export-cred"),
        (404, error("NoSuchBucket", "The specified bucket\n does not exist"), "bucket does not exist", "AWS_REGION"),
    ],
)
def test_refusals_have_their_own_hints(status: int, text: str, message: str, hint: str) -> None:
    found = s3_refusal("`s3://models`", status, text, {})
    assert isinstance(found, UsageError)
    assert message in found.message
    assert hint in found.hint


def test_an_endpoint_with_a_path(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path is signed: https://github.com/scality/cloudserver/issues/838."""
    home = {"HOME": str(tmp_path)}
    found = s3_bucket("models", {**home, **KEYS, "AWS_ENDPOINT_URL": "https://h.example/s3/"})
    assert found.url("a b") == "https://h.example/s3/models/a%20b"


@pytest.mark.parametrize("endpoint", ["minio:9000", "localhost", "ftp://h.example", "https://", "http://a b"])
def test_an_endpoint_that_is_no_url(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the URL of a server") as caught:
        s3_bucket("models", {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": endpoint})
    assert "AWS_ENDPOINT_URL" in caught.value.hint


CONFIG = """
[default]
services = local
s3 =
    addressing_style = virtual
[services local]
s3 =
  endpoint_url = http://127.0.0.1:9000
[profile global]
endpoint_url = https://all.example
[profile none]
[profile path]
s3 =
    addressing_style = path
"""


def test_settings_of_the_profile(tmp_path: Path) -> None:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)

    def base(name: str = "models", **environment: str) -> str:
        return s3_bucket(name, {"HOME": str(tmp_path), **environment}).base

    assert base() == "http://models.127.0.0.1:9000"
    assert base(AWS_ENDPOINT_URL_S3="https://oss.example:8443/x") == "https://models.oss.example:8443/x"
    assert base(AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true") == "https://models.s3.us-east-1.amazonaws.com"
    assert base(AWS_PROFILE="global") == "https://all.example/models"
    assert base(AWS_PROFILE="global", AWS_REGION="cn-north-1") == "https://all.example/models"
    assert base(AWS_PROFILE="path") == "https://s3.us-east-1.amazonaws.com/models"
    plain = {"AWS_PROFILE": "none", "AWS_REGION": "cn-north-1"}
    assert base(**plain) == "https://models.s3.cn-north-1.amazonaws.com.cn"
    assert base("a.b", **plain) == "https://s3.cn-north-1.amazonaws.com.cn/a.b"


def test_empty_variables_are_not_set(tmp_path: Path) -> None:
    """As of a secret that a pipeline does not have."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_access_key_id = AK\naws_secret_access_key = secret\n")
    empty = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"), "")
    found = s3_bucket("models", {"HOME": str(tmp_path), **empty})
    assert (found.keys, found.region) == (AwsKeys("AK", "secret"), "us-east-1")
