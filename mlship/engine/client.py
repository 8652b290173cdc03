"""Quick questions to the engine, asked at its socket, or else through docker, which finds every engine.

The docker program is quicker to start than the SDK is to import, and the only client of BuildKit.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from urllib.parse import quote

from pydantic import BaseModel, Field

from mlship import process
from mlship.engine.base import Disk, ImageInfo
from mlship.engine.failures import check_crash, docker_failure, engine_failure
from mlship.engine.local import ask
from mlship.errors import EngineError
from mlship.known_texts import phrase
from mlship.size.configuration import RunConfig
from mlship.versioned import adapter, parse_line

_SECONDS = 60.0
OLDEST_BUILDX = (0, 13)  # the first with --progress=rawjson


class _Layers(BaseModel):
    layers: list[str] | None = Field(None, alias="Layers")


class _Inspected(BaseModel):
    """The part of `docker image inspect` that is read; the engine writes null for empty values."""

    id: str = Field(alias="Id")
    size: int = Field(alias="Size")
    os: str = Field(alias="Os")
    architecture: str = Field(alias="Architecture")
    variant: str = Field("", alias="Variant")
    digests: list[str] | None = Field(None, alias="RepoDigests")
    config: RunConfig | None = Field(None, alias="Config")
    rootfs: _Layers = Field(default_factory=_Layers, alias="RootFS")


def image(reference: str) -> ImageInfo | None:
    """A local image; None if there is none of that name."""
    found = ask("GET", f"{_path(reference)}/json")
    if found is None:
        done = _docker("image", "inspect", "--format", "{{json .}}", reference)
        if not done.ok and "no such image" in done.stderr.lower():
            return None
        if not done.ok:
            raise engine_failure(done.stderr)
        found = done.stdout.encode()
    try:
        return _image_info(adapter(_Inspected).validate_json(found))
    except ValueError as error:
        raise EngineError(f"the engine does not say what `{reference}` is", hint=phrase("check_docker")) from error


def image_history(reference: str) -> tuple[tuple[str, int], ...]:
    """The instructions of a local image with the unpacked bytes of each one's layer; empty if unknown."""
    found = ask("GET", f"{_path(reference)}/history")
    if found is None:
        lines = _answer("image", "history", "--no-trunc", "--human=false", "--format", "{{json .}}", reference)
        found = f"[{','.join(lines.splitlines())}]".encode()
    try:
        steps = json.loads(found)
        return tuple((str(step["CreatedBy"]), int(step["Size"])) for step in steps)
    except (ValueError, KeyError, TypeError):
        return ()


def _path(reference: str) -> str:
    return f"/images/{quote(os.fsencode(reference))}"


def image_environment(reference: str, platform: str) -> dict[str, str] | None:
    """The environment of an image in its registry; None if it cannot be read."""
    answer = _answer("buildx", "imagetools", "inspect", reference, "--format", "{{json .Image}}")
    try:
        found = json.loads(answer)
        image = found.get(platform, found)
        return RunConfig.model_validate({"Env": image["config"]["Env"]}).variables
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def tag(reference: str, name: str) -> None:
    """Give a local image another name."""
    if ask("POST", f"{_path(reference)}/tag?repo={quote(name)}") is None:
        done = _docker("image", "tag", reference, name)
        if not done.ok:
            raise engine_failure(done.stderr)


def untag(*names: str) -> None:
    """Take names away from local images; does nothing where there is no such name."""
    if all(ask("DELETE", f"{_path(name)}?noprune=1") is not None for name in names):
        return
    done = _docker("image", "rm", "--no-prune", *names)
    if not done.ok and not all("no such image" in line for line in done.stderr.lower().splitlines()):
        raise engine_failure(done.stderr)


def disk() -> Disk | None:
    """The engine's disk; None if it is on another machine or unknown."""
    about = parse_line(ask("GET", "/info") or b"", dict[str, object]) or {}
    folder = about.get("DockerRootDir")
    with suppress(OSError):
        # A socket may be forwarded from another machine; Docker Desktop's machine has a name and a disk of its own.
        if isinstance(folder, str) and about.get("Name") == os.uname().nodename:
            return Disk(folder, shutil.disk_usage(folder).free)
    return None


def context_name() -> str:
    """The selected context, which is also the name of its engine's own builder."""
    return _answer("context", "show") or "default"


def buildx_version() -> str:
    """The version of buildx, such as 0.13.1.

    Raises:
        EngineError: there is no docker program, it has no buildx, or buildx is too old.
    """
    done = _docker("buildx", "version")
    found = re.search(r"buildx v?((\d+)\.(\d+)\S*)", done.stdout)  # Podman's docker prints "buildah 1.33"
    if not done.ok or not found:
        unread = re.search(r"Error loading config file: (.+)", done.stderr)
        why = f", and cannot read its settings: {unread[1]}" if unread else ""
        raise EngineError(f"the docker program has no buildx{why}", hint=phrase("install_buildx"))
    if (int(found[2]), int(found[3])) < OLDEST_BUILDX:
        raise EngineError(f"buildx {found[1]} is too old", hint=phrase("install_buildx"))
    return found[1]


def _docker(*arguments: str) -> process.Completed:
    try:
        done = process.run(("docker", *arguments), process.Options(timeout=_SECONDS))
    except process.ProcessError as error:
        raise docker_failure(error) from error
    check_crash(done)
    return done


def _answer(*arguments: str) -> str:
    """What the program prints; empty if it fails."""
    done = _docker(*arguments)
    return done.stdout.strip() if done.ok else ""


def _image_info(found: _Inspected) -> ImageInfo:
    config = found.config or RunConfig()
    return ImageInfo(
        id=found.id,
        size=found.size,
        platform="/".join(filter(None, (found.os, found.architecture, found.variant))),
        user=config.user or "",
        working_dir=config.working_dir or "/",
        command=config.command,
        labels=config.labels or {},
        env=config.variables,
        # containerd's image store identifies an image by its manifest, the older store by its configuration.
        digest=found.id if any(one.endswith(f"@{found.id}") for one in found.digests or ()) else None,
        layers=len(found.rootfs.layers or ()),
    )
