"""`mlship convert`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import Json, show_result


def convert_command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Model file of torch, ONNX, scikit-learn or Keras.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write: .safetensors, .onnx or .skops.")],
    key: Annotated[
        str | None, typer.Option(help="Key of the model in a file that holds more. [default: the whole file]")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON rows to compare on, for scikit-learn and Keras.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record of the training; writes a new one beside TARGET.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert a model file, and compare both models.

    A state dict of torch becomes safetensors, without running the pickle. The tensors of an ONNX file go to
    TARGET.data, which ONNX Runtime maps instead of copying it. Every tensor is compared bit for bit: the tolerance is
    zero.

    A model of scikit-learn becomes ONNX or skops, one of Keras ONNX. Its own libraries run it in a container without
    network, and both models must give the same outputs for the sample, within the tolerance that the report states.

    SOURCE stays as it is, and no file is replaced.
    """
    from mlship.cli.reporter import ConsoleReporter
    from mlship.convert.in_container import ComparedModel, ContainerConversion, convert_in_container
    from mlship.convert.run import ConversionOptions, convert
    from mlship.engine import connect
    from mlship.lock.indexes import read_pip_settings
    from mlship.lock.secrets import build_secrets
    from mlship.report.convert import show_conversion

    def in_container(wanted: ContainerConversion) -> ComparedModel:
        with ConsoleReporter().building() as watch:
            return convert_in_container(replace(wanted, secrets=build_secrets(read_pip_settings())), connect(), watch)

    done = convert(source, target, ConversionOptions(key, record, sample), in_container)
    show_result(done, show_conversion, json=json)
