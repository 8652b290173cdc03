"""What a scan found. Pure."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.project.weights import WeightFile

FileVerdict: TypeAlias = Literal["data", "code", "unknown"]
_ORDER: tuple[FileVerdict, ...] = ("code", "unknown", "data")


@dataclass(frozen=True)
class ScannedFile(WeightFile):
    """A model file, or another file that runs code when it is loaded.

    Attributes:
        path: relative to the folder, or in the image.
        verdict: "data" only if the whole structure of a format without code was checked.
        uses: names that loading it imports or calls; `foreign`: those that no known framework needs.
        problem: what is not known; None if everything is.
        layer: digest of the layer of an image.
    """

    verdict: FileVerdict
    uses: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    problem: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class ScanReport:
    """The model files of a file, folder or image, worst first.

    Attributes:
        read: number of files that were looked at.
        unread: what could not be read, such as a layer with an unknown compression.
    """

    target: str
    read: int
    files: tuple[ScannedFile, ...]
    unread: tuple[str, ...] = ()
    schema: int = 1

    def count(self, verdict: FileVerdict) -> int:
        return sum(file.verdict == verdict for file in self.files)

    @property
    def is_clean(self) -> bool:
        """Whether everything was read and is data."""
        return not self.unread and all(file.verdict == "data" for file in self.files)


def sorted_files(files: list[ScannedFile]) -> tuple[ScannedFile, ...]:
    return tuple(sorted(files, key=lambda file: (_ORDER.index(file.verdict), file.path, file.layer or "")))
