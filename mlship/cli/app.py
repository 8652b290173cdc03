"""The command `mlship`: its subcommands, and the error boundary that maps errors to exit codes."""

import errno
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer.core import TyperGroup
from typer.main import get_group

from mlship import __version__
from mlship.console import problem, set_quiet
from mlship.errors import Interrupted, MlshipError, TransientError, UsageError

if TYPE_CHECKING:
    from typer._click import Command, Context  # the types of TyperGroup's methods; typer.Context is a subclass


_CLEANUP_SECONDS = 3.0
_T = TypeVar("_T")

# The commands, in the order of `--help`, and their modules if those have another name. Only the one that runs is
# imported: the others take 13 ms.
_COMMANDS = (
    *("init", "lock", "fetch", "plan", "dockerfile", "export", "build", "rebuild", "smoke", "verify", "inspect"),
    *("kubernetes", "ci", "size", "scan", "audit", "fits", "training-record", "convert", "register", "schema"),
    *("doctor", "hosts", "shadow", "models"),
)
_OF_MODULE = {"dockerfile": "plan", "export": "plan", "verify": "inspect", "register": "models"}
_OF_MODULE |= {"training-record": "ci", "schema": "ci"}


class Program(TyperGroup):
    """The command, which imports a subcommand when it is needed.

    Prints known errors with their hint and exit code; exits 130 on Ctrl-C; reports anything else as a bug.
    """

    def list_commands(self, ctx: "Context") -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        for name in [cmd_name] if cmd_name in _COMMANDS else _COMMANDS:  # all, to suggest one for a wrong name
            if name not in self.commands:
                self.commands[name] = _imported(name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: "Context") -> object:
        if "" in ctx.args:  # an unset variable in a script, which Path takes for the current folder
            raise _exit(UsageError("an argument is empty", hint="check the variables in the command"))
        before = {number: signal.signal(number, _interrupt) for number in _signals()}
        hook, sys.unraisablehook = sys.unraisablehook, _unraisable
        try:
            return self._guarded(lambda: super(Program, self).invoke(ctx))
        finally:
            sys.unraisablehook = hook
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        return self._guarded(lambda: super(Program, self).parse_args(ctx, args))  # prints help and version

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except MlshipError as error:
            raise _exit(error) from error
        except (KeyboardInterrupt, typer.Abort) as error:  # Abort: Ctrl-C or Ctrl-D at a prompt
            raise _exit(Interrupted()) from error
        except BrokenPipeError as error:  # `mlship plan | head`
            sys.stdout = None
            raise typer.Exit(0) from error
        except typer.Exit:
            raise
        except OSError as error:
            raise _exit(_from_system(error)) from error
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise
            if isinstance(signal.getsignal(signal.SIGINT), partial):  # what it interrupted raised its own error
                raise _exit(Interrupted()) from error
            raise _bug(error) from error


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 check failed, 2 usage or mlship.yaml, 3 lock, 4 no CUDA match, 5 engine, "
    "6 image build, 70 bug in mlship, 75 temporary failure, 130 interrupted.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"mlship {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001  handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, warnings and results.")] = False,
) -> None:
    """Turn a model repository into a container image that is known to work.

    Start in a model repository: mlship init, mlship lock, mlship build.
    """
    if quiet:
        set_quiet()


def _imported(name: str) -> "Command":
    module = import_module(f"mlship.cli.{_OF_MODULE.get(name, name)}")
    found = getattr(module, f"{name.replace('-', '_')}_command", None) or getattr(module, name)
    parent = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name)
    else:
        parent.command(name)(found)
    return get_group(parent).commands[name]


def _signals() -> tuple[signal.Signals, ...]:
    """The signals that end a run; not SIGHUP under nohup."""
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)


def _interrupt(_number: int, found: FrameType | None) -> None:
    """Clean up on SIGTERM, which CI sends, and SIGHUP, as on Ctrl-C; a second signal does not interrupt that."""
    if found and "importlib" in found.f_code.co_filename:  # an exception there can be lost, and keep the import lock
        _interrupt_later()
        return
    for number in _signals():
        signal.signal(number, partial(_again, time.monotonic() + _CLEANUP_SECONDS))
    raise KeyboardInterrupt


def _again(until: float, number: int, frame: FrameType | None) -> None:
    if time.monotonic() >= until:  # the first one may be lost
        _interrupt(number, frame)


def _interrupt_later() -> None:
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """Interrupt again after Python dropped the exception, as in a `__del__` or in pydantic's core."""
    if lost.exc_type is KeyboardInterrupt:
        _interrupt_later()
    else:
        sys.__unraisablehook__(lost)


def _exit(error: MlshipError) -> typer.Exit:
    problem(error)
    return typer.Exit(error.exit_code)


def _from_system(error: OSError) -> MlshipError:
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransientError(
            f"the disk is full ({what})", hint="free disk space (`df -h` shows which disk is full), then try again"
        )
    return UsageError(what, hint="check the path and its permissions, then run the same command again")


def _bug(error: Exception) -> typer.Exit:
    """Report a bug with version, platform, command and traceback."""
    import platform
    import traceback

    trace = "".join(traceback.format_exception(error))
    where = f"mlship {__version__}, Python {platform.python_version()}, {platform.platform()}"
    report = f"{where}\n{' '.join(sys.argv)}\n\n{trace}"
    return _exit(
        MlshipError(
            f"a bug in mlship: {type(error).__name__}: {error}\n\n{report}",
            hint="open an issue with the text above; remove private data first",
        )
    )
