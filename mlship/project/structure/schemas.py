"""The schemas that model files are verified by: data/structures.toml, read on first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mlship.project.structure.protobuf import BYTES, FIXED32, FIXED64, VARINT, Schema
from mlship.versioned import data_table

_WIRES = {"varint": VARINT, "fixed64": FIXED64, "bytes": BYTES, "fixed32": FIXED32, "any": -1}


@dataclass(frozen=True)
class StructureTable:
    """The file, whose header explains its keys."""

    protobuf: Mapping[str, Mapping[str, Mapping[str, tuple[int, ...]]]]
    flatbuffers: Mapping[str, Mapping[str, tuple[str, ...]]]
    elements: Mapping[int, str]
    bits: Mapping[str, int]
    torch: Mapping[str, str]
    blocks: Mapping[int, tuple[int, int]]


@cache
def structure_table() -> StructureTable:
    return data_table(StructureTable, "structures")


@cache
def protobuf_schema(name: str) -> Schema:
    """The messages of a format, with the type of each field by its number."""
    return {
        message: {number: _WIRES.get(kind, kind) for kind, numbers in row.items() for number in numbers}
        for message, row in structure_table().protobuf[name].items()
    }
