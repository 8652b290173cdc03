"""Conversions that need no container."""

from pathlib import Path

from mlship.convert.in_container import ComparedModel, ContainerConversion
from mlship.convert.run import Conversion, ConversionOptions, convert


def convert_here(source: Path, target: Path, key: str | None = None) -> Conversion:
    """Convert; fails if a container would be started."""
    return convert(source, target, ConversionOptions(key), no_container)


def no_container(wanted: ContainerConversion) -> ComparedModel:
    raise AssertionError(f"a container was to run {wanted.source}")
