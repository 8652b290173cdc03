"""`python -m mlship`, and what the command `mlship` calls."""

from mlship.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="mlship")


if __name__ == "__main__":
    main()
