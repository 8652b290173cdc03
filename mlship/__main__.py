"""Entry point of `python -m mlship` and the command `mlship`."""

import gc
import io
import os
import signal
import sys


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            # Before a command starts and after it has cleaned up, there is nothing to clean up.
            signal.signal(number, lambda *_: os._exit(130))
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: another file would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # where the locale has no UTF-8, signs are written out
            stream.reconfigure(errors="backslashreplace")
    if os.path.expanduser("~") == "~":  # noqa: PTH111  no HOME and no such user: container engines then set this one
        os.environ["HOME"] = "/"
    # Imports create many permanent objects; garbage collection among them takes a fifth of the start-up time.
    gc.set_threshold(100_000, 50, 50)
    from mlship.cli.app import app

    # pydantic would search every installed distribution for plugins at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app(prog_name="mlship")
    finally:
        gc.freeze()  # at exit, Python would look for garbage among all objects, for 30 ms


if __name__ == "__main__":
    main()
