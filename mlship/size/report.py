"""The result of `mlship size`: a frozen value, JSON both ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.versioned import parse

SCHEMA = 1
Sort: TypeAlias = Literal["code", "native", "bytecode", "data"]
SORTS: tuple[Sort, ...] = ("native", "data", "code", "bytecode")
# What it is for; in this order where sizes are equal.
SizeGroup: TypeAlias = Literal[
    "base", "cuda", "framework", "heavy", "light", "packages", "weights", "code", "system",
]  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Of the whole image.

    Attributes:
        compressed: bytes that a pull moves; None where a layer's are not known.
        unpacked: bytes of the contents of all files of all layers; `hidden` of them are replaced or removed by a later
            layer, and travel nevertheless.
        files: that a container sees.
    """

    compressed: int | None
    unpacked: int
    hidden: int
    files: int


@dataclass(frozen=True)
class BaseLayers:
    """The image that this one is made from.

    Attributes:
        layers: how many of the lowest layers are its; None where that is not known, and `why` says why.
        name: as the image's label has it; digest likewise.
    """

    layers: int | None
    compressed: int | None
    unpacked: int | None
    name: str | None
    digest: str | None
    why: str


@dataclass(frozen=True)
class LayerSize:
    """One layer.

    Attributes:
        digest: of the layer as it is stored; `diff_id` that of its plain tar, which no compression changes.
        made_by: the step that made it; None where the image's history does not say.
        base: it is the base's; None where that is not known.
        hidden: bytes of it that later layers replace or remove.
    """

    digest: str
    diff_id: str
    made_by: str | None
    base: bool | None
    compressed: int | None
    unpacked: int
    hidden: int
    files: int


@dataclass(frozen=True)
class Part:
    """A Python distribution, or a folder where none owns the files. Bytes are unpacked ones.

    Attributes:
        version: of a distribution; None for everything else.
        sorts: its bytes by sort: code, native (shared libraries, extension modules, static archives), bytecode, data.
    """

    group: SizeGroup
    name: str
    version: str | None
    bytes: int
    files: int
    sorts: Mapping[Sort, int]


@dataclass(frozen=True)
class Waste:
    """Bytes that are there for nothing, or may be.

    Attributes:
        bytes: that would be saved; each file counts in one waste only.
        advice: one line: what to do about it.
        where: the largest examples.
    """

    id: str
    bytes: int
    what: str
    advice: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class PartChange:
    """How a part differs from the other image's; bytes and version are None where it is not there."""

    name: str
    group: SizeGroup
    before: int | None
    after: int | None
    version_before: str | None
    version_after: str | None

    @property
    def grown(self) -> int:
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Comparison:
    """What changed from another image to this one.

    Attributes:
        pulled: numbers of the layers, from 1, that a host with the other image does not have yet.
        pull: their compressed bytes; None where not known.
        changes: of parts, the largest first; those that are the same are left out.
    """

    other: str
    pulled: tuple[int, ...]
    pull: int | None
    compressed: int | None
    unpacked: int
    changes: tuple[PartChange, ...]


@dataclass(frozen=True)
class SizeReport:
    """Where the bytes of an image are.

    Attributes:
        unknown: what could not be told, and why.
    """

    image: str
    id: str
    platform: str
    totals: Totals
    base: BaseLayers
    layers: tuple[LayerSize, ...]
    parts: tuple[Part, ...]
    waste: tuple[Waste, ...]
    unknown: tuple[str, ...]
    against: Comparison | None = None
    schema: int = SCHEMA

    @staticmethod
    def from_json(text: str | bytes, name: str) -> "SizeReport":
        """Read what `mlship size --json` printed.

        Raises:
            UsageError: it is something else, or of a newer mlship.
        """
        hint = "write one with `mlship size IMAGE --json > FILE`, or name an image"
        return parse(text, SizeReport, SCHEMA, f"`{name}` is not a report of `mlship size --json`", hint)
