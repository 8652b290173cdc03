"""The kubectl program, with a time limit for each call and an explanation for each failure."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlship import plain
from mlship.errors import EngineError, MlshipError, TransientError
from mlship.known_texts import first_match
from mlship.process import Options, ProcessError, run

_SECONDS = 30
_SLACK_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster, as kubectl's configuration has it.

    Every verb raises EngineError if the cluster cannot be used or refuses, and TransientError if it does not answer.
    """

    context: str | None = None
    namespace: str | None = None

    @property
    def program(self) -> tuple[str, ...]:
        """The command line up to the verb, for hints too."""
        context = ("--context", self.context) if self.context else ()
        return ("kubectl", *context, *(("--namespace", self.namespace) if self.namespace else ()))

    def call(self, *arguments: str) -> str:
        """What kubectl prints."""
        argv = (*self.program, f"--request-timeout={_SECONDS}s", *arguments)
        try:
            done = run(argv, Options(timeout=_SECONDS + _SLACK_SECONDS))
        except ProcessError as error:
            raise _not_run(error) from error
        if not done.ok:
            raise explained(done.stderr.strip() or f"kubectl ended with code {done.code}")
        return done.stdout

    def get(self, *arguments: str) -> list[object]:
        """The objects of a list."""
        return list(plain.items(_object(self.call("get", *arguments, "-o", "json")), "items"))

    def create(self, manifest: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "job.yaml")
            file.write_text(manifest, encoding="utf-8")
            self.call("create", "-f", str(file))

    def version(self) -> str:
        """The cluster's version, such as v1.34.1."""
        found = plain.text(_object(self.call("version", "-o", "json")), "serverVersion", "gitVersion")
        return found or "of unknown version"


def explained(text: str, **values: str) -> MlshipError:
    """The error for a message of kubectl or of the cluster."""
    found = first_match(text, "kubernetes")
    if found is not None:
        return found.as_error(**{"image": "the image", **values})
    shown = text.rpartition("\n")[2].removeprefix("error: ").removeprefix("Error from server ")
    return EngineError(
        f"the cluster reports: {shown}", hint="`kubectl get events` shows more; then run the same command again"
    )


def _object(text: str) -> object:
    found = plain.json_of(text)
    if not isinstance(found, dict):
        raise EngineError("kubectl printed no JSON", hint="check that `kubectl get pods -o json` works")
    return found


def _not_run(error: ProcessError) -> MlshipError:
    if error.reason == "timeout":
        return TransientError(
            "the cluster did not answer in time", hint="check that `kubectl get pods` works, then try again"
        )
    return EngineError(
        "kubectl was not found" if error.reason == "missing" else "kubectl cannot be executed",
        hint="install it (https://kubernetes.io/docs/tasks/tools/), or leave out `--apply` to print the Job",
    )
