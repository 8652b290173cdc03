"""Looking at an engine, its containers and its images without changing them, through the docker program.

The program rather than the SDK: it chooses its engine itself (contexts, ssh and all), and starts much faster. What it
prints is handed on as it is, as JSON: it differs by version, and who asks is interested in exactly that.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from uuid import uuid4

from mlship import process

Json: TypeAlias = Mapping[str, object]
Lack: TypeAlias = Literal["no client", "no engine", "not there", "no answer"]

_NOTHING: Mapping[str, str] = {}
_LABEL = "dev.mlship.run"
_START_SECONDS = 5.0
_REMOVAL_SECONDS = 3.0
_NO_ENGINE = (
    "cannot connect to the docker daemon",
    "is the docker daemon running",
    "permission denied while trying to connect",
    "error during connect",
    "failed to connect to the docker api",
    "dial unix",
    "dial tcp",
)
_NO_MANIFEST = re.compile(r"no such manifest|manifest unknown|manifest for \S+ not found", re.IGNORECASE)


@dataclass(frozen=True)
class LookResult:
    """What the docker program said.

    Attributes:
        found: its JSON; empty where it had none.
        lack: why there is no answer, or only the client's part of one; None where all is well.
        said: its words on stderr.
    """

    found: Json
    lack: Lack | None = None
    said: str = ""


@dataclass(frozen=True)
class Trial:
    """A short-lived container that does nothing: without network, its root read-only, no capabilities.

    Attributes:
        image: its reference or id.
        command: a program of the image that waits, and ends by itself in time; it replaces the image's own.
        options: further options of `docker run`, such as those that give it a GPU.
    """

    image: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    name: str = field(default_factory=lambda: f"mlship-doctor-{uuid4().hex}")


@dataclass(frozen=True)
class Ran:
    """How a program in a container ended; `code` is None where it did not end in time, or there is no docker."""

    code: int | None
    stdout: str = ""
    stderr: str = ""


class EngineLook(Protocol):
    """What can be asked of an engine. No verb raises; all are bounded in time."""

    def about(self) -> LookResult:
        """`docker info`; the client's own part of it even where no engine answers."""
        ...

    def endpoint(self) -> LookResult:
        """`docker context inspect` of the context in use."""
        ...

    def container(self, name: str) -> LookResult:
        """`docker container inspect`."""
        ...

    def image(self, reference: str) -> LookResult:
        """`docker image inspect`: of a local image; nothing is pulled."""
        ...

    def registry(self, reference: str) -> LookResult:
        """`docker manifest inspect`: whether the image's registry has it."""
        ...

    def execute(self, container: str, argv: tuple[str, ...], seconds: float, env: Mapping[str, str] = _NOTHING) -> Ran:
        """Run a program in a running container, with `env` added to what its configuration sets."""
        ...

    def start(self, trial: Trial) -> Ran:
        """Start a container; the engine removes it when it ends."""
        ...

    def remove(self, container: str) -> None:
        """End and remove a container; quiet where there is none."""
        ...


class DockerLook:
    """The engine that the docker program speaks to."""

    def about(self) -> LookResult:
        done = _docker(("info", "--format", "{{json .}}"), 3)
        if not isinstance(done, process.Completed):
            return done
        found = _json(done.stdout)
        errors = found.get("ServerErrors")
        said = "; ".join(str(error) for error in errors) if isinstance(errors, list) and errors else done.stderr
        lack: Lack | None = None if done.ok and not errors else "no engine"
        return LookResult(found, lack, said.strip())

    def endpoint(self) -> LookResult:
        return _inspected(("context", "inspect", "--format", "{{json .}}"), 2)

    def container(self, name: str) -> LookResult:
        return _inspected(("container", "inspect", "--format", "{{json .}}", "--", name), 3)

    def image(self, reference: str) -> LookResult:
        return _inspected(("image", "inspect", "--format", "{{json .}}", "--", reference), 3)

    def registry(self, reference: str) -> LookResult:
        done = _docker(("manifest", "inspect", "--", reference), 4)
        if not isinstance(done, process.Completed):
            return done
        if done.ok:
            return LookResult(_json(done.stdout))
        said = done.stderr.strip()
        return LookResult({}, "not there" if _NO_MANIFEST.search(said) else "no answer", said)

    def execute(self, container: str, argv: tuple[str, ...], seconds: float, env: Mapping[str, str] = _NOTHING) -> Ran:
        added = tuple(part for key, value in env.items() for part in ("--env", f"{key}={value}"))
        return _ran(_docker(("exec", *added, container, *argv), seconds))

    def start(self, trial: Trial) -> Ran:
        argv = ("run", "--detach", "--rm", "--name", trial.name, "--label", f"{_LABEL}={trial.name}", "--pull", "never")
        confined = ("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        entrypoint, *arguments = trial.command
        command = ("--entrypoint", entrypoint, trial.image, *arguments)
        return _ran(_docker((*argv, *confined, *trial.options, *command), _START_SECONDS))

    def remove(self, container: str) -> None:
        _docker(("rm", "--force", "--volumes", container), _REMOVAL_SECONDS)


def _docker(arguments: tuple[str, ...], seconds: float) -> process.Completed | LookResult:
    try:
        return process.run(("docker", *arguments), process.Options(timeout=seconds))
    except process.ProcessError as error:
        if error.reason == "timeout":
            return LookResult({}, "no answer", f"no answer within {seconds:g} s")
        return LookResult({}, "no client", "there is no docker program" if error.reason == "missing" else str(error))


def _inspected(arguments: tuple[str, ...], seconds: float) -> LookResult:
    done = _docker(arguments, seconds)
    if not isinstance(done, process.Completed):
        return done
    if done.ok:
        return LookResult(_json(done.stdout))
    said = done.stderr.strip()
    return LookResult({}, "no engine" if any(sign in said.lower() for sign in _NO_ENGINE) else "not there", said)


def _json(text: str) -> Json:
    with suppress(ValueError):
        plain: object = json.loads(text)
        if isinstance(plain, dict):
            return plain
    return {}


def _ran(done: process.Completed | LookResult) -> Ran:
    if isinstance(done, LookResult):
        return Ran(None, "", done.said)
    return Ran(done.code, done.stdout, done.stderr)
