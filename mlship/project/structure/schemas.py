"""The schemas that model files are verified by: data/structures.toml, read on first use."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlship.versioned import table_reader


@dataclass(frozen=True)
class StructureTable:
    """The file, whose header explains its keys."""

    protobuf: Mapping[str, Mapping[str, Mapping[str, tuple[int, ...]]]]
    flatbuffers: Mapping[str, Mapping[str, tuple[str, ...]]]
    elements: Mapping[int, str]
    bits: Mapping[str, int]
    torch: Mapping[str, str]
    blocks: Mapping[int, tuple[int, int]]


structure_table = table_reader(StructureTable, "structures")
