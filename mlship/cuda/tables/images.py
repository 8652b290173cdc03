"""The nvidia/cuda images on Docker Hub: which point releases there are, on which Ubuntu, with which cuDNN."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlship.cuda.tables.rows import Row, once, read_rows
from mlship.cuda.versions import Cuda

FILE = "images.toml"
FLAVOURS = ("runtime", "cudnn-runtime", "devel", "cudnn-devel")
_VERSION = re.compile(r"([0-9]+\.[0-9]+)\.[0-9]+", re.ASCII)
_DISTRO = re.compile(r"ubuntu[0-9]{2}\.[0-9]{2}", re.ASCII)


@dataclass(frozen=True)
class NvidiaImage:
    """One point release on one Ubuntu.

    Attributes:
        version: such as "12.6.3".
        flavours: what there is of it, among FLAVOURS.
        cudnn: the version of cuDNN in the cudnn flavours, such as "9"; None where it has none.
        token: what its tags call cuDNN: "cudnn8", "cudnn9" or "cudnn".
        gone: a newer point release took its place, and the tag may have been deleted.
        confirmed: its tags were seen in more than hearsay.
    """

    version: str
    cuda: Cuda
    distro: str
    flavours: tuple[str, ...]
    cudnn: str | None
    token: str | None
    gone: bool
    confirmed: bool
    note: str | None
    source: str

    def tag(self, flavour: str) -> str:
        """The tag behind "nvidia/cuda:", such as "12.3.2-cudnn9-runtime-ubuntu22.04"."""
        return f"{self.version}-{flavour.replace('cudnn', self.token or 'cudnn')}-{self.distro}"


def read_images(text: str | None = None) -> tuple[NvidiaImage, ...]:
    """Read images.toml, or a text in its place; point releases ascend.

    Raises:
        ValueError: see Row; or a point release that stands twice.
    """
    rows = once(read_rows(FILE, ("images",), text)["images"], _images, lambda item: (item[0].version,))
    return tuple(sorted((image for images in rows for image in images), key=_order))


def _order(image: NvidiaImage) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in image.version.split(".")), image.distro


def _images(row: Row) -> tuple[NvidiaImage, ...]:
    """A row is one point release for several Ubuntus."""
    version = row.text("version")
    found = _VERSION.fullmatch(version)
    if not found:
        raise row.wrong(f"version: {version!r} is not a point release such as 12.6.3")
    cudnn, token = row.text_or_none("cudnn"), row.text_or_none("token")
    flavours = row.texts_or_none("flavours") or FLAVOURS
    has_cudnn = any("cudnn" in flavour for flavour in flavours)
    if not set(flavours) <= set(FLAVOURS):
        raise row.wrong(f"flavours must be among {', '.join(FLAVOURS)}")
    if not (has_cudnn == bool(cudnn) == bool(token)):
        raise row.wrong("cudnn, token and the cudnn flavours belong together")
    gone, confirmed, note, source = row.flag("gone"), row.flag("confirmed"), row.text_or_none("note"), row.source()
    cuda = Cuda.parse(found[1])
    return tuple(
        NvidiaImage(version, cuda, distro, flavours, cudnn, token, gone, confirmed, note, source)
        for distro in _distros(row)
    )


def _distros(row: Row) -> Iterator[str]:
    for distro in row.texts("distros"):
        if not _DISTRO.fullmatch(distro):
            raise row.wrong(f"distros: {distro!r} is not written as in a tag, such as ubuntu22.04")
        yield distro
