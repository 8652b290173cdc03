"""A saved image, read in one pass: what `docker save` streams, or an OCI archive.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mlship.errors import EngineError
from mlship.size.configuration import ImageConfig, ImagePlatform, image_config
from mlship.size.content import File, file_reader
from mlship.size.layers import Budget, FileReader, LayerTree, read_layer_tar
from mlship.size.stream import BrokenTarError, ByteStream, Readable, is_compressed, members, tar_in

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Documents: TypeAlias = Callable[[str], bytes | None]  # the JSON documents of an image by path; None if there is none
_LARGEST_JSON = 16 << 20
_DEEPEST = 3  # indexes in indexes


class _Descriptor(BaseModel):
    """A reference to a blob; Docker before 25 names the `file` instead of the digest."""

    digest: str
    size: int = 0
    platform: ImagePlatform | None = None
    file: str = ""

    @property
    def path(self) -> str:
        return self.file or f"blobs/{self.digest.replace(':', '/', 1)}"


class _Index(BaseModel):
    manifests: list[_Descriptor]


class _Manifest(BaseModel):
    config: _Descriptor
    layers: list[_Descriptor]


class _LegacyManifest(BaseModel):
    config: str = Field(alias="Config")
    layers: list[str] = Field(alias="Layers")


@dataclass(frozen=True)
class SavedLayer(Generic[T]):
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
    content: LayerTree[T]


@dataclass(frozen=True)
class SavedImage(Generic[T]):
    """An image for one platform, lowest layer first."""

    config: ImageConfig
    layers: tuple[SavedLayer[T], ...]


@dataclass(frozen=True)
class ListedImage:
    """What the documents say of one image; `digest` is empty where they do not give the manifest's."""

    digest: str
    manifest: _Manifest
    config: ImageConfig


@dataclass(frozen=True)
class _Blob(Generic[T]):
    """A layer's blob; `content` is the error if it cannot be read."""

    size: int
    compressed: bool
    content: LayerTree[T] | BrokenTarError


def read_layout(
    chunks: Iterable[bytes], name: str, platform: str, watch: Callable[[int], None] = lambda _count: None
) -> SavedImage[File]:
    """Read a saved image with the size of each file; see `read_saved`."""
    return read_saved(chunks, name, file_reader(Budget()), platform, watch=watch)


def read_saved(
    chunks: Iterable[bytes],
    name: str,
    read: FileReader[T],
    platform: str | None = None,
    *,
    hint: str = "",
    watch: Callable[[int], None] = lambda _count: None,
) -> SavedImage[T]:
    """Read the tar of a saved image to its end; it may be compressed by gzip or zstd.

    Args:
        name: image name for messages.
        read: what to keep of each file of a layer.
        platform: platform to select, such as linux/amd64; None: there must be one image.
        hint: what to do if it cannot be read; by default for an image of the engine.
        watch: called with the number of bytes read so far.

    Raises:
        EngineError: the stream is not a complete image.
        UsageError: it is another artifact.
    """
    texts, blobs, links, budget = dict[str, bytes](), dict[str, _Blob[T]](), dict[str, str](), Budget()
    with image_errors(name, hint):
        tar, _ = tar_in(ByteStream(chunks, watch))
        if tar is None:
            raise BrokenTarError("it is no tar")
        for member, opened in members(tar):
            path = posixpath.normpath(member.name)
            if member.issym():  # Docker before 25 links a layer that occurs twice
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.isreg():
                stream = opened()
                layer, head = tar_in(stream)
                if layer:
                    blobs[path] = _Blob(member.size, is_compressed(head), _tree(layer, read, budget))
                elif head.lstrip().startswith((b"{", b"[")) and member.size <= _LARGEST_JSON:
                    texts[path] = head + stream.read()
        listed = list_image(texts.get, platform)
        return SavedImage(listed.config, tuple(_layers(listed, blobs, links)))


@contextmanager
def image_errors(name: str, hint: str = "") -> Iterator[None]:
    """Raise what is broken in an image's bytes as an EngineError.

    Args:
        hint: what to do; by default for an image that the engine saves.
    """
    try:
        yield
    except BrokenTarError as error:
        engine = f"run `docker save {name} | tar -t >/dev/null`; if it fails, pull or build the image again"
        raise EngineError(f"cannot read image `{name}`: {error}", hint=hint or engine) from error


def _tree(layer: Readable, read: FileReader[T], budget: Budget) -> LayerTree[T] | BrokenTarError:
    try:
        return read_layer_tar(layer, read, budget)
    except BrokenTarError as error:  # the blob may not be a layer of the selected image
        return error


def _layers(listed: ListedImage, blobs: Mapping[str, _Blob[T]], links: Mapping[str, str]) -> Iterator[SavedLayer[T]]:
    config = listed.config
    rows = zip(listed.manifest.layers, config.rootfs.diff_ids, config.layer_steps, strict=True)
    for descriptor, diff_id, step in rows:
        path = links.get(descriptor.path, descriptor.path)
        blob = blobs.get(path)
        if blob is None:
            raise BrokenTarError(f"layer {path} is missing or is not gzip, zstd or tar")
        if isinstance(blob.content, BrokenTarError):
            raise BrokenTarError(f"layer {path}: {blob.content}") from blob.content
        compressed = blob.size if blob.compressed else None
        yield SavedLayer(descriptor.digest or diff_id, diff_id, step, compressed, blob.content)


def list_image(documents: Documents, platform: str | None = None) -> ListedImage:
    """The image that an archive lists: for a platform, or the only one.

    Raises:
        BrokenTarError: there is none, there are several, or a document is missing or invalid.
        UsageError: it is another artifact.
    """
    if documents("index.json") is None:
        found = {"": _by_engine(documents)}
    else:
        found = dict(_by_index(documents, "index.json", platform))
    if not found or (platform is None and len(found) > 1):
        what = f"{len(found)} images, and one can be read" if found else f"no image for {platform or 'any platform'}"
        raise BrokenTarError(f"it holds {what}")
    digest, manifest = next(iter(found.items()))
    config = image_config(_text(documents, manifest.config.path))
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise BrokenTarError("configuration and manifest list different numbers of layers")
    return ListedImage(digest, manifest, config)


def _by_engine(documents: Documents) -> _Manifest:
    """Docker before 25 writes no index, only its own manifest."""
    try:
        listed = TypeAdapter(list[_LegacyManifest]).validate_json(_text(documents, "manifest.json"))
    except ValidationError as error:
        raise BrokenTarError("manifest.json lists no image") from error
    if len(listed) != 1:
        raise BrokenTarError(f"it holds {len(listed)} images, and one can be read")
    config, *layers = (_of_file(path) for path in (listed[0].config, *listed[0].layers))
    return _Manifest(config=config, layers=layers)


def _of_file(path: str) -> _Descriptor:
    is_blob = path.startswith("blobs/")
    return _Descriptor(digest=path.removeprefix("blobs/").replace("/", ":", 1) if is_blob else "", file=path)


def _by_index(documents: Documents, path: str, platform: str | None, depth: int = 0) -> Iterator[tuple[str, _Manifest]]:
    """The platform's manifests below an index, by digest; indexes can be nested."""
    if depth > _DEEPEST:
        raise BrokenTarError("image indexes refer to each other in a circle")
    for each in _parsed(documents, path, _Index).manifests:
        text = documents(each.path)
        if text is None or not _fits(each, platform):
            continue  # another platform, or a manifest that the engine did not pull
        if b'"manifests"' in text and b'"layers"' not in text:
            yield from _by_index(documents, each.path, platform, depth + 1)
        else:
            yield each.digest, _parsed(documents, each.path, _Manifest)


def _fits(descriptor: _Descriptor, platform: str | None) -> bool:
    """Attestations have the platform unknown/unknown, which never matches."""
    named = descriptor.platform
    if named is None or platform is None:
        return named is None or named.os != "unknown"
    return f"{named.os}/{named.architecture}" == "/".join(platform.split("/")[:2])


def _text(documents: Documents, path: str) -> bytes:
    text = documents(path)
    if text is None:
        raise BrokenTarError(f"{path} is missing")
    return text


def _parsed(documents: Documents, path: str, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(_text(documents, path))
    except ValidationError as error:
        raise BrokenTarError(f"{path}: {error.errors()[0]['msg']}") from error
