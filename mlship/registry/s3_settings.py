"""Where a bucket of S3 answers, and requests signed with Signature Version 4.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from mlship.errors import UsageError
from mlship.redact import redact

EMPTY_SHA256 = hashlib.sha256().hexdigest()
_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


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
        now: datetime | None = None,
    ) -> dict[str, str]:
        """The headers of a request, with its signature, which covers all of them.

        Args:
            sha256: of the body, in hex.
        """
        if self.keys is None:
            return dict(headers or {})
        parts, time = urlsplit(url), (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        token = {"x-amz-security-token": self.keys.token} if self.keys.token else {}
        sent = {**(headers or {}), "x-amz-content-sha256": sha256, "x-amz-date": time, **token}
        lines = {name.lower(): value.strip() for name, value in {**sent, "host": parts.netloc}.items()}
        names = ";".join(sorted(lines))
        query = "&".join(sorted(parts.query.split("&")))
        listed = "".join(f"{name}:{lines[name]}\n" for name in sorted(lines))
        request = f"{method}\n{parts.path}\n{query}\n{listed}\n{names}\n{sha256}"
        scope = f"{time[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self.keys.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        proof = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self.keys.access}/{scope}"
        return {**sent, "Authorization": f"{credential}, SignedHeaders={names}, Signature={proof}"}


def s3_bucket(name: str, environment: Mapping[str, str] = os.environ) -> S3Bucket:
    """A bucket, with the settings that AWS's own programs read: variables, then the profile of ~/.aws.

    https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html

    Raises:
        UsageError: a file cannot be read, there is no profile AWS_PROFILE, half of a key is missing, or the endpoint
            is no URL.
    """
    profile = _profile(environment)
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or profile.get("region")
    region = region or "us-east-1"
    keys = _keys(environment, profile)
    endpoint, style = _endpoint(environment, profile), profile.get("s3.addressing_style")
    if not endpoint:
        endpoint = f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
        style = style if style in {"path", "virtual"} or "." in name else "virtual"  # no certificate covers a.b.s3…
    host = endpoint.replace("://", f"://{name}.", 1) if style == "virtual" else f"{endpoint}/{name}"
    return S3Bucket(host, region, keys)


def _keys(environment: Mapping[str, str], profile: Mapping[str, str]) -> AwsKeys | None:
    """The keys of the first source with an id, else of the first with a secret; None if no source has either."""
    sources = (environment, {key.upper(): value for key, value in profile.items()})
    found = next((source for name in _PAIR for source in sources if source.get(name)), {})
    access, secret = (found.get(name, "") for name in _PAIR)
    if bool(access) != bool(secret):  # without a signature, S3 would only say that access is denied
        there, missing = _PAIR if access else reversed(_PAIR)
        where = "the environment" if found is environment else "the profile in ~/.aws"
        hint = f"set both in {where}, or neither for a public bucket"
        raise UsageError(f"{where} has `{there}` without `{missing}`", hint=hint)
    return AwsKeys(access, secret, found.get("AWS_SESSION_TOKEN", "")) if access else None


def _endpoint(environment: Mapping[str, str], profile: Mapping[str, str]) -> str:
    """The URL of the store without a final slash; empty for AWS.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    ignored = environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or profile.get("ignore_configured_endpoint_urls")
    if (ignored or "").lower() == "true":
        return ""
    found = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    found = found or profile.get("s3.endpoint_url") or profile.get("endpoint_url") or ""
    if found and not _URL.fullmatch(found):
        hint = "set AWS_ENDPOINT_URL, or `endpoint_url` in ~/.aws/config, to `https://HOST[:PORT]`"
        raise UsageError(f"`{redact(found)}` is not the URL of a server", hint=hint)
    return found.rstrip("/")


def _profile(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The keys of AWS_PROFILE in both files, and of its services; `s3.KEY` is one of S3. Empty without them.

    Raises:
        UsageError: a file cannot be read, or AWS_PROFILE is set and in neither file, which AWS's programs refuse too.
    """
    name = environment.get("AWS_PROFILE") or "default"
    home = Path(environment.get("HOME") or Path.home())
    found: dict[str, str] = {}
    absent = list[str]()
    files = (
        (environment.get("AWS_CONFIG_FILE") or home / ".aws/config", name if name == "default" else f"profile {name}"),
        (environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials", name),
    )
    for path, section in files:
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (Error, UnicodeDecodeError) as error:
            raise UsageError(f"`{path}` is not a configuration file of AWS", hint="correct or remove it") from error
        absent += [] if parser.has_section(section) else [f"no `[{section}]` in `{path}`"]
        found |= _section(parser, section)
        found |= _section(parser, f"services {found.get('services', '')}")
    if environment.get("AWS_PROFILE") and len(absent) == len(files):
        hint = "correct AWS_PROFILE, or unset it for a public bucket"
        raise UsageError(f"AWS_PROFILE is `{redact(name)}`: {' and '.join(absent)}", hint=hint)
    return found


def _section(parser: ConfigParser, name: str) -> dict[str, str]:
    """The keys of a section; the indented lines below one become `KEY.INDENTED`."""
    found: dict[str, str] = {}
    for key, value in parser[name].items() if parser.has_section(name) else ():
        found[key] = value
        for line in value.splitlines()[1:]:
            inner, _, setting = line.partition("=")
            found[f"{key}.{inner.strip()}"] = setting.strip()
    return found
