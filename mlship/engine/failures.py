"""Errors of engines, BuildKit, installers and NVIDIA's toolkit as errors of mlship, with cause and fix. Pure.

The known messages are in `mlship/data/known_texts.toml`.
"""

import errno
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from mlship.errors import BuildError, EngineError, MlshipError, TransientError, UsageError
from mlship.known_texts import first_match, phrase
from mlship.process import Completed, ProcessError, signal_name


@dataclass(frozen=True)
class FailedBuild:
    """What is known of a build that failed.

    Attributes:
        step: BuildKit's name of the step; empty if the build reached none.
        output: the last lines that the step printed.
        error: BuildKit's error text.
    """

    step: str
    output: tuple[str, ...]
    error: str


def build_failure(failed: FailedBuild) -> MlshipError:
    """Why a build failed: the cause, the step, its last lines, and the fix."""
    internal = (failed.step,) if failed.step.startswith("[internal]") else ()
    match = first_match("\n".join((*internal, failed.error, *failed.output)), "build")
    known = match.as_error() if match else BuildError(last_line(failed.error), hint=phrase("full_log"))
    parts = [f"the image build failed: {known.message}"]
    if failed.step:
        parts.append(f"  step: {' '.join(failed.step.split())}")
    # A step that printed nothing is explained by BuildKit's own error.
    details = failed.output or [line for line in failed.error.splitlines() if line.strip()][-3:]
    parts.extend(f"  | {line}" for line in details)
    return type(known)("\n".join(parts), hint=known.hint, cause=known.cause)


def registry_failure(reference: str, text: str, *, pushed: bool = False) -> MlshipError:
    """Why a registry did not look up or, if `pushed`, accept an image."""
    registry = registry_of(reference)
    where = f"`{reference}` in {registry}"
    match = first_match(text, "push" if pushed else "registry")
    if match is None:
        return TransientError(f"{where}: {last_line(text)}", hint=phrase("try_again"))
    known = match.as_error(registry=registry)
    # Outside a build, a missing or forbidden image means a wrong name or setting.
    kind = UsageError if isinstance(known, BuildError) else type(known)
    return kind(f"{where}: {known.message} ({last_line(text)})", hint=known.hint)


def engine_failure(text: str, image: str = "", *, gpu: bool = False) -> MlshipError:
    """Why the engine did not answer a request: to start a container from an image, or one with GPUs."""
    of_gpus = first_match(text, "gpu") if gpu else None
    match = of_gpus or (first_match(text, "start") if image else None) or first_match(text, "engine")
    if match:
        return match.as_error(image=image)
    return EngineError(f"the Docker Engine refused: {last_line(text)}", hint="run `docker version` to check it")


def unsupported_gpu_method(text: str) -> str | None:
    """Why an engine does not support a method of passing GPUs at all; None if `text` is about something else."""
    match = first_match(text, "gpu-method")
    return match.why() if match else None


def no_gpu(refused: Mapping[str, str]) -> EngineError:
    """The error for an engine that supports no method of passing GPUs; `refused` is its message by method."""
    lines = [
        f"  {method}: {unsupported_gpu_method(text)} ({' '.join(text.split())})" for method, text in refused.items()
    ]
    # CDI is on by default from Engine 28.3.
    enable = ' and set `{"features": {"cdi": true}}` in /etc/docker/daemon.json' if '"cdi"' in str(refused) else ""
    return EngineError(
        "\n".join(("this Docker Engine cannot give containers a GPU", *lines)),
        hint=f"{phrase('install_toolkit')}, then run {phrase('configure_toolkit')}; "
        f"or, for CDI, run {phrase('generate_cdi')}{enable}; "
        "without a GPU, `mlship build --smoke cpu` and `mlship smoke IMAGE --on cpu` test everything else",
    )


def no_docker() -> EngineError:
    """The error for a machine without the docker program."""
    return EngineError("`docker` is not on PATH", hint=phrase("install_docker"))


def docker_failure(error: ProcessError) -> EngineError:
    """The error for a docker program that could not be run, or did not answer."""
    if error.reason == "missing":
        return no_docker()
    if error.reason == "denied":
        return EngineError("`docker` on PATH cannot be executed", hint='check its mode: `ls -l "$(command -v docker)"`')
    return EngineError(f"`{error.command}` did not answer in time", hint=phrase("check_docker"))


def check_crash(done: Completed) -> None:
    """Check that the docker program was not ended by a signal: then its silence says nothing.

    Raises:
        EngineError: it was.
    """
    if done.code < 0:
        command = " ".join(done.argv[:3])
        raise EngineError(f"`{command}` was ended by {signal_name(-done.code)}", hint=phrase("check_docker"))


def disk_failure(error: OSError) -> MlshipError:
    """The error for a temporary file that could not be written; its name would mean nothing to a user."""
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR}:
        folder = tempfile.gettempdir()
        return UsageError(
            f"cannot write temporary files in `{folder}`: {error.strerror}",
            hint="set TMPDIR to a folder that you may write to",
        )
    return TransientError(f"cannot write a temporary file: {error.strerror or error}", hint=phrase("free_disk"))


def registry_of(reference: str) -> str:
    """The registry that a reference names, such as 127.0.0.1:5000, or Docker Hub."""
    first, slash, _ = reference.partition("/")
    has_host = slash and (first == "localhost" or any(sign in first for sign in ".:"))
    return first if has_host else "Docker Hub"


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
