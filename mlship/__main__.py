"""`python -m mlship`, and what the command `mlship` calls."""

import gc
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)  # until a command begins, and once it has cleaned up
    # Imports make many objects, and all of them stay: looking through them for garbage is a fifth of start-up.
    gc.set_threshold(100_000, 50, 50)
    from mlship.cli.app import app

    # pydantic would look through every installed distribution for plugins, at each start; we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app(prog_name="mlship")


def _leave(_number: int, _frame: FrameType | None) -> None:
    """There is nothing to clean up."""
    os._exit(130)


if __name__ == "__main__":
    main()
