"""Addresses of model files: `https://`, `hf://` for Hugging Face, `s3://`, `oci://` for a registry, `file://`."""

import os
import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

from mlship.project.values import printable
from mlship.redact import has_credentials

_PATTERNS = (
    re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^\s@?#]+?)/(?P<file>[^\s@?#/][^\s@?#]*)"),
    re.compile(r"oci://(?P<image>[\w.:/-]+@sha256:[0-9a-f]{64})(#(?P<file>[^\s#]+))?"),
    re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^\s?#/][^\s?#]*[^\s?#/]|[^\s?#/])"),
    re.compile(r"file://(?P<path>/.*[^/])"),
)
_HOSTS = {"127.0.0.1", "localhost", "::1"}  # plain HTTP never leaves this machine


def checked(text: str) -> str:
    """The address, if it is one.

    Raises:
        ValueError: it is not, or holds a password or a token.
    """
    printable(text)
    if has_credentials(text):
        raise ValueError("the address holds credentials, which everyone who reads mlship.yaml would see: use ~/.netrc")
    parts = urlsplit(text)
    if parts.scheme == "https" and parts.hostname and parts.path.strip("/"):
        return text
    if parts.scheme == "http" and parts.hostname in _HOSTS and parts.path.strip("/"):
        return text
    if address_parts(text):
        return text
    raise ValueError(
        f"{text!r} is not an address of a model file: use https://HOST/FILE, hf://OWNER/NAME@REVISION/FILE, "
        "s3://BUCKET/KEY, oci://REGISTRY/NAME@sha256:DIGEST#FILE or file:///FOLDER/FILE"
    )


WeightAddress = Annotated[str, AfterValidator(checked)]


def address_parts(address: str) -> dict[str, str]:
    """The parts of an address by name; empty for one of HTTP.

    `repo`, `revision` and `file` on Hugging Face; `image` and `file` (empty without one) in a registry; `bucket` and
    `key` in S3; `path` in a folder.
    """
    found = next(filter(None, (pattern.fullmatch(address) for pattern in _PATTERNS)), None)
    return found.groupdict("") if found else {}


def hub_request(parts: Mapping[str, str], env: Mapping[str, str] = os.environ) -> tuple[str, dict[str, str]]:
    """URL and headers, perhaps with a token, of a file on Hugging Face.

    HF_ENDPOINT and HF_TOKEN are those of Hugging Face's own programs:
    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    host = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    token = env.get("HF_TOKEN")
    url = f"{host}/{parts['repo']}/resolve/{quote(parts['revision'], safe='')}/{quote(parts['file'])}"
    return url, {"Authorization": f"Bearer {token}"} if token else {}
