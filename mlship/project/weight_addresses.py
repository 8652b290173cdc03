"""Addresses of model files: `https://`, `hf://` for Hugging Face, `s3://`, `oci://` for a registry, `file://`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

from mlship.project.values import printable
from mlship.redact import has_credentials

_HF = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^\s@?#]+?)/(?P<file>[^\s@?#/][^\s@?#]*)")
_OCI = re.compile(r"oci://(?P<image>[\w.:/-]+@sha256:[0-9a-f]{64})(#(?P<file>[^\s#]+))?")
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[^\s?#/][^\s?#]*[^\s?#/]|[^\s?#/])")
_FILE = re.compile(r"file://(?P<path>/.*[^/])")
_HOSTS = {"127.0.0.1", "localhost", "::1"}  # plain HTTP never leaves this machine


@dataclass(frozen=True)
class HttpFile:
    """A file to get over HTTP; `headers` may hold a token."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RegistryFile:
    """A layer of an artifact in a registry.

    Attributes:
        image: the artifact, by digest.
        file: the layer's title; empty for an artifact of one layer.
    """

    image: str
    file: str


@dataclass(frozen=True)
class ObjectFile:
    """An object in S3."""

    bucket: str
    key: str


WeightPlace: TypeAlias = HttpFile | RegistryFile | ObjectFile | Path


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
    if any(pattern.fullmatch(text) for pattern in (_HF, _OCI, _S3, _FILE)):
        return text
    raise ValueError(
        f"{text!r} is not an address of a model file: use https://HOST/FILE, hf://OWNER/NAME@REVISION/FILE, "
        "s3://BUCKET/KEY, oci://REGISTRY/NAME@sha256:DIGEST#FILE or file:///FOLDER/FILE"
    )


WeightAddress = Annotated[str, AfterValidator(checked)]


def located(address: str, env: Mapping[str, str] = os.environ) -> WeightPlace:
    """Where the file of a valid address is.

    HF_ENDPOINT and HF_TOKEN are those of Hugging Face's own programs:
    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    if found := _OCI.fullmatch(address):
        return RegistryFile(found["image"], found["file"] or "")
    if found := _S3.fullmatch(address):
        return ObjectFile(found["bucket"], found["key"])
    if found := _FILE.fullmatch(address):
        return Path(found["path"])
    if found := _HF.fullmatch(address):
        host = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        url = f"{host}/{found['repo']}/resolve/{quote(found['revision'], safe='')}/{quote(found['file'])}"
        token = env.get("HF_TOKEN")
        return HttpFile(url, {"Authorization": f"Bearer {token}"} if token else {})
    return HttpFile(address)
