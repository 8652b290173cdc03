"""`python -m mlship`, and what the command `mlship` calls."""

import os

from mlship.cli.app import app


def main() -> None:
    """Run the command line."""
    # pydantic would look through every installed distribution for plugins, at each start; we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app(prog_name="mlship")


if __name__ == "__main__":
    main()
