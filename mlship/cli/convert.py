"""`mlship convert`."""

from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import Json


def convert_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="State dict of torch, or ONNX file.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write: .safetensors, or .onnx.")],
    key: Annotated[
        str | None, typer.Option("--key", help="Key of the state dict in a checkpoint. [default: the whole file]")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Record of the training; writes a new one beside TARGET."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert a model file without running it.

    From a state dict of torch to safetensors: the pickle is read without running it. From one ONNX file to one whose
    tensors are in TARGET.data, which ONNX Runtime maps instead of copying it. Every tensor is compared bit for bit:
    the tolerance is zero. SOURCE stays as it is, and no file is replaced.
    """
    from mlship.console import emit, out
    from mlship.convert.run import convert
    from mlship.versioned import to_json

    done = convert(source, target, key, record)
    if json:
        emit(to_json(done))
        return
    tensors = f"{done.tensors} tensor{'' if done.tensors == 1 else 's'}"
    out(f"wrote {', '.join(done.files)}: {tensors} compared, the same bit for bit")
    if done.record:
        out(f"wrote {done.record}")
