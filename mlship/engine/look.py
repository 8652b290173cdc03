"""Inspecting an engine, its containers and its images through the docker program, without changing them.

The program supports every kind of context, ssh included, and starts faster than the SDK. Its JSON is passed on
unchanged: it differs by version, and the doctor reads exactly that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from uuid import uuid4

from mlship import process
from mlship.engine.base import LABEL
from mlship.known_texts import first_match
from mlship.versioned import parse_line

Json: TypeAlias = Mapping[str, object]
Lack: TypeAlias = Literal["no client", "no engine", "not there", "no answer"]

# Clients with docker's verbs and answers, in the order in which they are asked for a container. Those of Kubernetes are
# in a namespace of their own.
CLIENTS = (("docker",), ("podman",), ("nerdctl",), ("nerdctl", "--namespace", "k8s.io"))
_NOTHING: Mapping[str, str] = {}
_START_SECONDS = 5.0
_REMOVAL_SECONDS = 10.0  # of a machine under load; usually far less


@dataclass(frozen=True)
class LookResult:
    """What the docker program answered.

    Attributes:
        found: its JSON; empty if there is none.
        lack: why the answer is missing, or holds only the client's part; None on success.
        said: its error messages.
        client: the program that answered.
    """

    found: Json
    lack: Lack | None = None
    said: str = ""
    client: str = "docker"


@dataclass(frozen=True)
class Trial:
    """A short-lived idle container with no network, no capabilities and a read-only root.

    Attributes:
        image: its reference or id.
        command: a program of the image that waits and then ends by itself; it replaces the image's command.
        options: more options of `docker run`, such as those that pass GPUs to it.
        seconds: in which it must have started.
    """

    image: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    seconds: float = _START_SECONDS
    name: str = field(default_factory=lambda: f"mlship-doctor-{uuid4().hex}")


@dataclass(frozen=True)
class Ran:
    """How a program in a container ended; `code` is None if it did not end in time or docker could not be run."""

    code: int | None
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class EngineLook:
    """Questions about the engine that a client selects: docker, or one with the same verbs.

    No verb raises, and each has a time limit.
    """

    client: tuple[str, ...] = ("docker",)

    def about(self) -> LookResult:
        """`docker info`; only the client's part of it if no engine answers."""
        done = self._run(("info", "--format", "{{json .}}"), 3)
        if not isinstance(done, process.Completed):
            return done
        found = parse_line(done.stdout, dict[str, object]) or {}
        errors = found.get("ServerErrors")
        said = "; ".join(str(error) for error in errors) if isinstance(errors, list) and errors else done.stderr
        lack: Lack | None = None if done.ok and not errors else "no engine"
        return LookResult(found, lack, said.strip())

    def endpoint(self) -> LookResult:
        """`docker context inspect` of the current context."""
        return self._inspected(("context", "inspect", "--format", "{{json .}}"), 2)

    def container(self, name: str) -> LookResult:
        """`docker container inspect`."""
        return self._inspected(("container", "inspect", "--format", "{{json .}}", "--", name), 3)

    def image(self, reference: str) -> LookResult:
        """`docker image inspect` of a local image; nothing is pulled."""
        return self._inspected(("image", "inspect", "--format", "{{json .}}", "--", reference), 3)

    def registry(self, reference: str) -> LookResult:
        """`docker manifest inspect`: whether the image's registry has the image."""
        return self._inspected(("manifest", "inspect", "--", reference), 4, "registry")

    def execute(self, container: str, argv: tuple[str, ...], seconds: float, env: Mapping[str, str] = _NOTHING) -> Ran:
        """Run a program in a running container; `env` is added to the container's environment."""
        added = tuple(part for key, value in env.items() for part in ("--env", f"{key}={value}"))
        return _ran(self._run(("exec", *added, container, *argv), seconds))

    def start(self, trial: Trial) -> Ran:
        """Start a container that the engine removes when it ends."""
        argv = ("run", "--detach", "--rm", "--name", trial.name, "--label", f"{LABEL}={trial.name}", "--pull", "never")
        confined = ("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
        entrypoint, *arguments = trial.command
        command = ("--entrypoint", entrypoint, trial.image, *arguments)
        return _ran(self._run((*argv, *confined, *trial.options, *command), trial.seconds))

    def remove(self, container: str) -> None:
        """Stop and remove a container; does nothing if there is none."""
        self._run(("rm", "--force", "--volumes", container), _REMOVAL_SECONDS)

    def _run(self, arguments: tuple[str, ...], seconds: float) -> process.Completed | LookResult:
        try:
            return process.run((*self.client, *arguments), process.Options(timeout=seconds))
        except process.ProcessError as error:
            if error.reason == "timeout":
                return LookResult({}, "no answer", f"no answer within {seconds:g} s")
            missing = f"`{self.client[0]}` is not on PATH"
            return LookResult({}, "no client", missing if error.reason == "missing" else str(error))

    def _inspected(
        self, arguments: tuple[str, ...], seconds: float, of: Literal["engine", "registry"] = "engine"
    ) -> LookResult:
        done = self._run(arguments, seconds)
        if not isinstance(done, process.Completed):
            return done
        if done.ok:
            return LookResult(parse_line(done.stdout, dict[str, object]) or {}, client=self.client[0])
        said = done.stderr.strip()
        row = match.row if (match := first_match(said, of)) else None
        if of == "registry":
            return LookResult({}, "not there" if row and row.id == "image-missing" else "no answer", said)
        return LookResult({}, "no engine" if row and row.error == "EngineError" else "not there", said)


def _ran(done: process.Completed | LookResult) -> Ran:
    if isinstance(done, LookResult):
        return Ran(None, "", done.said)
    return Ran(done.code, done.stdout, done.stderr)
