"""Addresses of model files: `https://`, `hf://` for Hugging Face, `oci://` for a registry."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

from mlship.project.values import printable
from mlship.redact import has_credentials

_HF = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^\s@?#]+?)/(?P<file>[^\s@?#/][^\s@?#]*)")
_OCI = re.compile(r"oci://(?P<image>[\w.:/-]+@sha256:[0-9a-f]{64})(#(?P<file>[^\s#]+))?")
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
    if _HF.fullmatch(text) or _OCI.fullmatch(text):
        return text
    raise ValueError(
        f"{text!r} is not an address of a model file: use https://HOST/FILE, hf://OWNER/NAME@REVISION/FILE or "
        "oci://REGISTRY/NAME@sha256:DIGEST#FILE"
    )


WeightAddress = Annotated[str, AfterValidator(checked)]


def located(address: str, env: Mapping[str, str] = os.environ) -> HttpFile | RegistryFile:
    """Where the file of a valid address is.

    HF_ENDPOINT and HF_TOKEN are those of Hugging Face's own programs:
    https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    if found := _OCI.fullmatch(address):
        return RegistryFile(found["image"], found["file"] or "")
    if found := _HF.fullmatch(address):
        host = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        url = f"{host}/{found['repo']}/resolve/{quote(found['revision'], safe='')}/{quote(found['file'])}"
        token = env.get("HF_TOKEN")
        return HttpFile(url, {"Authorization": f"Bearer {token}"} if token else {})
    return HttpFile(address)
