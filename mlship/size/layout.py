"""Parse the stream of `docker save` in one pass into the layers of one image.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md, and layer.md there for whiteouts.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mlship.errors import EngineError
from mlship.size.content import Budget, Content, content_of
from mlship.size.stream import BrokenTarError, ByteStream, Readable, Rewound, is_compressed, is_tar, members, unpacked

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


class _LegacyManifest(BaseModel):
    config: str = Field(alias="Config")
    layers: list[str] = Field(alias="Layers")


class _Step(BaseModel):
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class _RootFs(BaseModel):
    diff_ids: list[str]


class _RunConfig(BaseModel):
    working_dir: str | None = Field(None, alias="WorkingDir")
    labels: dict[str, str] | None = Field(None, alias="Labels")


class _Config(_Platform):
    rootfs: _RootFs
    config: _RunConfig | None = None
    history: list[_Step] | None = None


@dataclass(frozen=True)
class SavedLayer:
    """One layer.

    Attributes:
        digest: digest of the stored blob; `diff_id` is the digest of the uncompressed tar.
        made_by: build step from the image's history; None if the history does not match the layers.
        compressed: bytes in a registry; None if the engine stores the layer uncompressed.
    """

    digest: str
    diff_id: str
    made_by: str | None
    compressed: int | None
    content: Content


@dataclass(frozen=True)
class SavedImage:
    """An image for one platform, lowest layer first."""

    platform: str
    working_dir: str
    labels: Mapping[str, str]
    layers: tuple[SavedLayer, ...]


@dataclass(frozen=True)
class _Blob:
    """A layer's blob; `content` is the error if it cannot be read."""

    size: int
    compressed: bool
    content: Content | BrokenTarError


def read_layout(
    chunks: Iterable[bytes], name: str, platform: str, watch: Callable[[int], None] = lambda _count: None
) -> SavedImage:
    """Read the tar of a saved image to its end.

    Args:
        name: image name for messages.
        platform: platform to select, such as linux/amd64.
        watch: called with the number of bytes read so far.

    Raises:
        EngineError: the stream is not a complete image.
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
            f"cannot read image `{name}` as saved by the engine: {error}",
            hint=f"run `docker save {name} | tar -t >/dev/null`; if it fails, pull or build the image again",
        ) from error


@dataclass(frozen=True)
class _Found:
    """Contents read so far, by path; Docker before 25 links a layer that occurs twice."""

    texts: dict[str, bytes]
    blobs: dict[str, _Blob]
    links: dict[str, str]
    budget: Budget

    def take(self, path: str, size: int, stream: Readable) -> None:
        head = stream.read(_HEAD)
        stream = Rewound(head, stream)
        if is_compressed(head) or is_tar(head):
            self.blobs[path] = _Blob(size, is_compressed(head), self._listed(stream, head))
        elif head.lstrip().startswith((b"{", b"[")) and size <= _LARGEST_JSON:
            self.texts[path] = stream.read()

    def _listed(self, stream: Readable, head: bytes) -> Content | BrokenTarError:
        try:
            return content_of(unpacked(stream, head), self.budget)
        except BrokenTarError as error:  # the blob may not be a layer of the selected image
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
    chosen = _by_index(found, platform) if "index.json" in found.texts else _by_engine(found)
    config = found.json(chosen.config, _Config)
    running = config.config or _RunConfig()
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(chosen.layers):
        raise BrokenTarError("configuration and manifest list different numbers of layers")
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
    """Paths of one image's blobs."""

    config: str
    layers: tuple[str, ...]


def _by_index(found: _Found, platform: str) -> _Chosen:
    manifest = _manifest(found, "index.json", platform)
    if manifest is None:
        raise BrokenTarError(f"no image for {platform}")
    return _Chosen(_path(manifest.config.digest), tuple(_path(each.digest) for each in manifest.layers))


def _by_engine(found: _Found) -> _Chosen:
    """Docker before 25 writes no index, only its own manifest."""
    try:
        first = TypeAdapter(list[_LegacyManifest]).validate_json(found.text("manifest.json"))[0]
    except (ValidationError, IndexError) as error:
        raise BrokenTarError("manifest.json lists no image") from error
    return _Chosen(first.config, tuple(found.links.get(path, path) for path in first.layers))


def _manifest(found: _Found, path: str, platform: str, depth: int = 0) -> _Manifest | None:
    """Return the platform's first manifest below an index; indexes can be nested."""
    if depth > 3:
        raise BrokenTarError("image indexes refer to each other in a circle")
    for each in found.json(path, _Index).manifests:
        below = _path(each.digest)
        text = found.texts.get(below)
        if text is None or not _fits(each, platform):
            continue  # another platform, or a manifest that the engine did not pull
        if b'"manifests"' in text and b'"layers"' not in text:
            deeper = _manifest(found, below, platform, depth + 1)
            if deeper is not None:
                return deeper
        else:
            return found.json(below, _Manifest)
    return None


def _fits(descriptor: _Descriptor, platform: str) -> bool:
    """Attestations have the platform unknown/unknown, which never matches."""
    named = descriptor.platform
    return named is None or f"{named.os}/{named.architecture}" == "/".join(platform.split("/")[:2])


def _layer(found: _Found, path: str, diff_id: str, step: str | None) -> SavedLayer:
    blob = found.blobs.get(path)
    if blob is None:
        raise BrokenTarError(f"layer {path} is missing or is not gzip, zstd or tar")
    if isinstance(blob.content, BrokenTarError):
        raise BrokenTarError(f"layer {path}: {blob.content}") from blob.content
    digest = path.removeprefix("blobs/").replace("/", ":", 1) if path.startswith("blobs/") else diff_id
    return SavedLayer(digest, diff_id, step, blob.size if blob.compressed else None, blob.content)


def _steps(config: _Config, count: int) -> list[str | None]:
    """Return each layer's build step; None for all if history and layers do not match."""
    steps = [step.created_by or step.comment for step in config.history or () if not step.empty_layer]
    return steps if len(steps) == count else [None] * count


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"
