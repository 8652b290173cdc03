"""The base image of all contestants, python:3.11-slim or its stand-in, with access to this machine's index."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _machine import Problem, run

if TYPE_CHECKING:
    from pathlib import Path

    from _bench_engine import Engine, Registry

SUITE_TAG = "3.11-slim-bookworm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Base:
    names: tuple[str, ...]  # images that the benchmark must not remove
    layers: int
    origin: str


def base_image(engine: Engine, bases: Registry, work: Path) -> Base:
    """Build and push it once, then pull it under every name that a contestant's Dockerfile may use."""
    mirror = os.environ.get("MLSHIP_BASE_MIRROR", "")
    source = f"{mirror or 'docker.io'}/library/python:{SUITE_TAG}"
    if not engine.docker("pull", "--quiet", source).ok:
        hint = 'run `eval "$(scripts/engine env)"`, or use a network that reaches Docker Hub'
        raise Problem(f"cannot pull the base image `{source}`", "no registry has it", hint)
    folder = work / "base"
    folder.mkdir()
    (folder / "Dockerfile").write_text(_dockerfile(source, folder))
    ours = f"{bases.host}/library/python"
    engine.must("build", "--provenance=false", "--tag", f"{ours}:{SUITE_TAG}", str(folder))
    names = [SUITE_TAG, "3.11-slim", f"{platform.python_version()}-slim"]
    for name in names:
        engine.must("tag", f"{ours}:{SUITE_TAG}", f"{ours}:{name}")
        engine.must("push", "--quiet", f"{ours}:{name}")
        engine.must("pull", "--quiet", f"python:{name}")  # through the mirror, which is the same registry
    engine.must("pull", "--quiet", f"{ours}:{SUITE_TAG}")
    kept = (f"{ours}:{SUITE_TAG}", *(f"python:{name}" for name in names))
    origin = "stand-in for python:3.11-slim" if mirror else "python:3.11-slim"
    return Base(kept, len(bases.manifest("library/python", SUITE_TAG).layers), origin)


def _dockerfile(source: str, folder: Path) -> str:
    """Add the certificates and index of this machine's pip, so that no contestant's Dockerfile needs them."""
    lines = [f"FROM {source}"]
    bundle, index = certificates(), index_url()
    if bundle:
        shutil.copyfile(bundle, folder / "ca.crt")
        names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        lines += [f"COPY ca.crt {CERTIFICATES}", f"ENV {' '.join(f'{name}={CERTIFICATES}' for name in names)}"]
    if index:
        lines.append(f"ENV PIP_INDEX_URL={index} UV_DEFAULT_INDEX={index}")
    return "\n".join(lines) + "\n"


def certificates() -> str:
    """The CA bundle in this machine's pip configuration, or ""."""
    return _pip("cert")


def index_url() -> str:
    return _pip("index-url")


def _pip(key: str) -> str:
    """Read the environment before the configuration, as pip does."""
    variable = os.environ.get(f"PIP_{key.upper().replace('-', '_')}", "")
    return variable or run(("python3", "-m", "pip", "config", "get", f"global.{key}")).out.strip()


def clean_environment(work: Path) -> dict[str, str]:
    """Return the environment of commands on this machine: the same index for all, and no local folders of wheels."""
    bundle, index = certificates(), index_url()
    settings = [f"cert = {bundle}"] * bool(bundle) + [f"index-url = {index}"] * bool(index)
    config = work / "pip.conf"
    config.write_text("\n".join(["[global]", *settings, ""]))
    found = {"PIP_CONFIG_FILE": str(config), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_CACHE_DIR": str(work / "uv")}
    if bundle:
        found |= {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
    if index:
        found["UV_DEFAULT_INDEX"] = index
    return found
