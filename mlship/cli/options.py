"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[
    Path,
    typer.Option(
        "--directory", "-C", help="The model repository.", show_default="this folder", exists=True, file_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout. The exit code stays the same.")]
Platform = Annotated[
    str | None,
    typer.Option("--platform", help="Instead of mlship.yaml's; the lock must be made for it.", metavar="OS/ARCH"),
]
HERE = Path()
