"""The command `mlship`: its subcommands, and the error boundary that maps errors to exit codes."""

import errno
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from mlship import __version__
from mlship.cli.audit import audit_command
from mlship.cli.build import build_command
from mlship.cli.ci import ci_command, schema_command, training_record_command
from mlship.cli.convert import convert_command
from mlship.cli.doctor import doctor
from mlship.cli.fetch import fetch_command
from mlship.cli.fits import fits_command
from mlship.cli.hosts import hosts
from mlship.cli.init import init_command
from mlship.cli.inspect import inspect_command, verify_command
from mlship.cli.kubernetes import kubernetes_command
from mlship.cli.lock import lock_command
from mlship.cli.models import models, register_command
from mlship.cli.plan import dockerfile_command, export_command, plan_command
from mlship.cli.rebuild import rebuild_command
from mlship.cli.scan import scan_command
from mlship.cli.shadow import shadow
from mlship.cli.size import size_command
from mlship.cli.smoke import smoke_command
from mlship.errors import Interrupted, MlshipError, TransientError, UsageError

if TYPE_CHECKING:
    from typer._click import Context  # the parameter type of TyperGroup.invoke; typer.Context is a subclass


_CLEANUP_SECONDS = 3.0


class Boundary(TyperGroup):
    """Print known errors with their hint and exit code; exit 130 on Ctrl-C; report anything else as a bug."""

    def invoke(self, ctx: "Context") -> object:
        before = {number: signal.signal(number, _interrupt) for number in _signals()}
        try:
            return self._guarded(ctx)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _guarded(self, ctx: "Context") -> object:
        try:
            result: object = super().invoke(ctx)
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
            raise _bug(error) from error
        return result


app = typer.Typer(
    cls=Boundary,
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
        from mlship.console import set_quiet

        set_quiet()


for command in (
    init_command,
    lock_command,
    fetch_command,
    plan_command,
    dockerfile_command,
    export_command,
    build_command,
    rebuild_command,
    smoke_command,
    verify_command,
    inspect_command,
    kubernetes_command,
    ci_command,
    size_command,
    scan_command,
    audit_command,
    fits_command,
    training_record_command,
    convert_command,
    register_command,
    schema_command,
):
    app.command(command.__name__.removesuffix("_command").replace("_", "-"))(command)
app.add_typer(doctor, name="doctor")
app.add_typer(hosts, name="hosts")
app.add_typer(shadow, name="shadow")
app.add_typer(models, name="models", help="List, show, compare and fetch registered models.")


def _signals() -> tuple[signal.Signals, ...]:
    """The signals that end a run; not SIGHUP under nohup."""
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Clean up on SIGTERM, which CI sends, and SIGHUP, as on Ctrl-C; a second signal does not interrupt that."""
    until = time.monotonic() + _CLEANUP_SECONDS

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= until:  # Python may lose the first one (in a __del__)
            _interrupt(number, frame)

    for number in _signals():
        signal.signal(number, again)
    raise KeyboardInterrupt


def _exit(error: MlshipError) -> typer.Exit:
    from mlship.console import problem

    problem(error)
    return typer.Exit(error.exit_code)


def _from_system(error: OSError) -> MlshipError:
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TransientError(
            f"the disk is full ({what})", hint="free disk space (`docker system df` shows its use), then try again"
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
