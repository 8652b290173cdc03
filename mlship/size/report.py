"""The report of `mlship size`, which can be read back from JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.versioned import parse_versioned

SCHEMA = 1
Sort: TypeAlias = Literal["code", "native", "bytecode", "data"]
SORTS: tuple[Sort, ...] = ("native", "data", "code", "bytecode")
# Groups name the purpose of a file.
SizeGroup: TypeAlias = Literal[
    "base", "cuda", "framework", "heavy", "light", "packages", "weights", "code", "system",
]  # fmt: skip


def known_sum(sizes: Iterable[int | None]) -> int | None:
    """Add sizes; None if any is unknown."""
    known = list(sizes)
    return None if None in known else sum(size or 0 for size in known)


@dataclass(frozen=True)
class Totals:
    """Totals of the image.

    Attributes:
        compressed: bytes that a pull transfers; None if unknown for any layer.
        unpacked: bytes of all files in all layers.
        hidden: unpacked bytes that later layers replace or remove; a pull still transfers them.
        files: files that a container sees.
    """

    compressed: int | None
    unpacked: int
    hidden: int
    files: int


@dataclass(frozen=True)
class BaseLayers:
    """The base image.

    Attributes:
        layers: number of lowest layers from the base; None if unknown, for the reason in `why`.
        name: base name from the image's label, as is `digest`.
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
        digest: digest of the stored blob; `diff_id` is the digest of the uncompressed tar.
        made_by: build step; None if unknown.
        base: whether it belongs to the base image; None if unknown.
        hidden: unpacked bytes that later layers replace or remove.
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
    """A Python distribution, or a folder of files without one.

    Attributes:
        version: version of a distribution; None for a folder.
        bytes: unpacked bytes.
        sorts: unpacked bytes by kind; native includes shared libraries, extension modules and static archives.
    """

    group: SizeGroup
    name: str
    version: str | None
    bytes: int
    files: int
    sorts: Mapping[Sort, int]


@dataclass(frozen=True)
class Waste:
    """Bytes that may not be needed.

    Attributes:
        bytes: unpacked bytes saved; each file counts once.
        advice: one line with what to do.
        where: the largest examples.
    """

    id: str
    bytes: int
    what: str
    advice: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class PartChange:
    """How a part changed; bytes and version are None in an image without the part."""

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
    """Changes from another image to this one.

    Attributes:
        pulled: numbers, from 1, of the layers missing on a host with the other image.
        pull: compressed bytes of those layers; None if unknown.
        changes: changed parts, largest change first.
    """

    other: str
    pulled: tuple[int, ...]
    pull: int | None
    compressed: int | None
    unpacked: int
    changes: tuple[PartChange, ...]


@dataclass(frozen=True)
class SizeReport:
    """Sizes of an image.

    Attributes:
        unknown: values that could not be determined, and why.
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
        """Read the output of `mlship size --json`.

        Raises:
            UsageError: the text is something else or has another schema.
        """
        hint = "pass an image, or write a report with `mlship size IMAGE --json > FILE`"
        return parse_versioned(text, SizeReport, SCHEMA, f"`{name}` is not a report of `mlship size --json`", hint)
