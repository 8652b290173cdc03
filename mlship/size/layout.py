"""A saved image as values: what `docker save` streams, read in one pass, its layers listed as they go by.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md, and layer.md there for whiteouts.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mlship.errors import EngineError
from mlship.size.content import Budget, Content, content_of
from mlship.size.stream import Again, BrokenTarError, ByteStream, Readable, is_compressed, is_tar, members, unpacked

_LARGEST_JSON = 16 << 20
_HEAD = 512
_T = TypeVar("_T", bound=BaseModel)


class _Platform(BaseModel):
    os: str = "unknown"
    architecture: str = "unknown"


class _Descriptor(BaseModel):
    digest: str
    platform: _Platform | None = None


class _Index(BaseModel):
    manifests: list[_Descriptor]


class _Manifest(BaseModel):
    config: _Descriptor
    layers: list[_Descriptor]


class _Own(BaseModel):
    config: str = Field(alias="Config")
    layers: list[str] = Field(alias="Layers")


class _Step(BaseModel):
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class _RootFs(BaseModel):
    diff_ids: list[str]


class _Running(BaseModel):
    working_dir: str | None = Field(None, alias="WorkingDir")
    labels: dict[str, str] | None = Field(None, alias="Labels")


class _Config(_Platform):
    rootfs: _RootFs
    config: _Running | None = None
    history: list[_Step] | None = None


@dataclass(frozen=True)
class SavedLayer:
    """One layer.

    Attributes:
        digest: of the layer as the engine stores it; `diff_id` that of its plain tar.
        made_by: the step that made it, from the image's history; None where the history does not fit the layers.
        compressed: bytes as a registry would hold it; None where the engine stores it uncompressed.
    """

    digest: str
    diff_id: str
    made_by: str | None
    compressed: int | None
    content: Content


@dataclass(frozen=True)
class SavedImage:
    """An image of one platform, its lowest layer first."""

    platform: str
    working_dir: str
    labels: Mapping[str, str]
    layers: tuple[SavedLayer, ...]


@dataclass(frozen=True)
class _Blob:
    """A layer's blob; `content` says why where it cannot be read."""

    size: int
    compressed: bool
    content: Content | BrokenTarError


def read_layout(
    chunks: Iterable[bytes], name: str, platform: str, watch: Callable[[int], None] = lambda _count: None
) -> SavedImage:
    """Read the tar of a saved image, to its end.

    Args:
        name: the image's, for messages.
        platform: which of several to take, such as linux/amd64.
        watch: is told how many bytes were read so far.

    Raises:
        EngineError: it is not the whole of an image.
    """
    found = _Found({}, {}, {}, Budget())
    try:
        for member, content in members(ByteStream(chunks, watch)):
            path = posixpath.normpath(member.name)
            stream = content() if member.isreg() else None
            if member.issym():
                found.links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif stream is not None:
                found.take(path, member.size, stream)
        return _linked(found, platform)
    except BrokenTarError as error:
        raise EngineError(
            f"what the engine saved of {name} cannot be read: {error}",
            hint=f"`docker save {name} | tar -t >/dev/null` must work; else pull or build the image again",
        ) from error


@dataclass(frozen=True)
class _Found:
    """What went by so far, by path; engines before 25 write a link where a layer comes twice."""

    texts: dict[str, bytes]
    blobs: dict[str, _Blob]
    links: dict[str, str]
    budget: Budget

    def take(self, path: str, size: int, stream: Readable) -> None:
        head = stream.read(_HEAD)
        stream = Again(head, stream)
        if is_compressed(head) or is_tar(head):
            self.blobs[path] = _Blob(size, is_compressed(head), self._listed(stream, head))
        elif head.lstrip().startswith((b"{", b"[")) and size <= _LARGEST_JSON:
            self.texts[path] = stream.read()

    def _listed(self, stream: Readable, head: bytes) -> Content | BrokenTarError:
        try:
            return content_of(unpacked(stream, head), self.budget)
        except BrokenTarError as error:  # it may be no layer of the image that is meant
            return error

    def text(self, path: str) -> bytes:
        text = self.texts.get(path)
        if text is None:
            raise BrokenTarError(f"{path} is missing")
        return text

    def json(self, path: str, kind: type[_T]) -> _T:
        try:
            return kind.model_validate_json(self.text(path))
        except ValidationError as error:
            raise BrokenTarError(f"{path}: {error.errors()[0]['msg']}") from error


def _linked(found: _Found, platform: str) -> SavedImage:
    """Manifest -> configuration and layers."""
    chosen = _by_index(found, platform) if "index.json" in found.texts else _by_engine(found)
    config = found.json(chosen.config, _Config)
    running = config.config or _Running()
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(chosen.layers):
        raise BrokenTarError("configuration and manifest disagree about the number of layers")
    steps = _steps(config, len(diff_ids))
    return SavedImage(
        platform=f"{config.os}/{config.architecture}",
        working_dir=running.working_dir or "/",
        labels=running.labels or {},
        layers=tuple(
            _layer(found, path, diff_id, step)
            for path, diff_id, step in zip(chosen.layers, diff_ids, steps, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Chosen:
    """The paths of one image's blobs."""

    config: str
    layers: tuple[str, ...]


def _by_index(found: _Found, platform: str) -> _Chosen:
    manifest = _manifest(found, "index.json", platform)
    if manifest is None:
        raise BrokenTarError(f"it holds no image for {platform}")
    return _Chosen(_path(manifest.config.digest), tuple(_path(each.digest) for each in manifest.layers))


def _by_engine(found: _Found) -> _Chosen:
    """Engines before 25 write no index, only a manifest of their own."""
    try:
        first = TypeAdapter(list[_Own]).validate_json(found.text("manifest.json"))[0]
    except (ValidationError, IndexError) as error:
        raise BrokenTarError("manifest.json names no image") from error
    return _Chosen(first.config, tuple(found.links.get(path, path) for path in first.layers))


def _manifest(found: _Found, path: str, platform: str, depth: int = 0) -> _Manifest | None:
    """The first manifest of the platform below an index; an index may name others."""
    if depth > 3:
        raise BrokenTarError("its indexes go in circles")
    for each in found.json(path, _Index).manifests:
        below = _path(each.digest)
        text = found.texts.get(below)
        if text is None or not _fits(each, platform):
            continue  # of another platform, which this engine never pulled
        if b'"manifests"' in text and b'"layers"' not in text:
            deeper = _manifest(found, below, platform, depth + 1)
            if deeper is not None:
                return deeper
        else:
            return found.json(below, _Manifest)
    return None


def _fits(descriptor: _Descriptor, platform: str) -> bool:
    """Attestations say that they are for unknown/unknown."""
    named = descriptor.platform
    return named is None or f"{named.os}/{named.architecture}" == "/".join(platform.split("/")[:2])


def _layer(found: _Found, path: str, diff_id: str, step: str | None) -> SavedLayer:
    blob = found.blobs.get(path)
    if blob is None:
        raise BrokenTarError(f"layer {path} is missing, or is neither gzip, zstd nor tar")
    if isinstance(blob.content, BrokenTarError):
        raise BrokenTarError(f"layer {path}: {blob.content}") from blob.content
    digest = path.removeprefix("blobs/").replace("/", ":", 1) if path.startswith("blobs/") else diff_id
    return SavedLayer(digest, diff_id, step, blob.size if blob.compressed else None, blob.content)


def _steps(config: _Config, count: int) -> list[str | None]:
    """What made each layer; nothing is guessed where history and layers do not fit."""
    steps = [step.created_by or step.comment for step in config.history or () if not step.empty_layer]
    return steps if len(steps) == count else [None] * count


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"
