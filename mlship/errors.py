"""Every error that a user can cause: one class for each exit code."""

from collections.abc import Iterable

_RELOCK = "run `mlship lock{options}` and commit what it writes"


class MlshipError(Exception):
    """`message` is what happened and why; `hint` is the exact next step.

    Attributes:
        cause: id of the row in data/known_texts.toml that explains the error; empty if none does.
    """

    exit_code = 70

    def __init__(self, message: str, *, hint: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.hint = hint


class CheckFailed(MlshipError):  # noqa: N818
    """A check failed: the smoke test, or an audit."""

    exit_code = 1


class UsageError(MlshipError):
    """The command line or `mlship.yaml` is invalid, or asks for something unsafe."""

    exit_code = 2


class LockError(MlshipError):
    """The lock is missing, outdated, without hashes, edited by hand or made for another Python.

    Without a `hint`, the remedy is `mlship lock`.

    Attributes:
        changed: keys of the lock's inputs that have changed, such as `platform`.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None, changed: Iterable[str] = ()) -> None:
        super().__init__(message, hint=hint or _RELOCK.format(options=""))
        self.changed = frozenset(changed)
        self._relock = hint is None

    def for_options(self, options: str) -> "LockError":
        """The same error; if its remedy is `mlship lock`, with these options, each after a space."""
        hint = _RELOCK.format(options=options) if self._relock else self.hint
        return LockError(self.message, hint=hint, changed=self.changed)


class MatchError(MlshipError):
    """No CUDA version fits the hosts, or there is no host to match."""

    exit_code = 4


class EngineError(MlshipError):
    """There is no usable Docker Engine: it is missing, forbidden, too old or without buildx."""

    exit_code = 5


class BuildError(MlshipError):
    """A step of the image build failed."""

    exit_code = 6


class TransientError(MlshipError):
    """The network, a registry or the disk failed: the same command may work later."""

    exit_code = 75


class Interrupted(MlshipError):  # noqa: N818
    """Ctrl-C, SIGTERM or SIGHUP."""

    exit_code = 130

    def __init__(self, hint: str = "run the same command again") -> None:
        super().__init__("interrupted; containers and temporary files are removed", hint=hint)
