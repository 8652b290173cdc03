"""What an audit needs of an image: its configuration, and files of its layers by name and mode. Nothing runs."""

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from tarfile import TarInfo
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from mlship.audit.rules import audit_table
from mlship.errors import EngineError
from mlship.size.layer_paths import is_within, layer_path, removed_by
from mlship.size.stream import BrokenTarError, ByteStream, Readable, members, tar_in
from mlship.size.waste import is_cache

_LARGEST_JSON = 4_000_000  # bytes
_LARGEST_TEXT = 100_000
_SPECIAL = 0o6000  # setuid and setgid
# A program with setuid or setgid; musl's loader; CUDA's runtime; libcuda; the metadata of a Python package.
AuditKind: TypeAlias = Literal["setuid", "compiler", "musl", "cuda", "driver", "wheel"]


class _Health(BaseModel):
    test: list[str] | None = Field(None, alias="Test")


class _Settings(BaseModel):
    user: str | None = Field(None, alias="User")
    env: list[str] | None = Field(None, alias="Env")
    entrypoint: list[str] | None = Field(None, alias="Entrypoint")
    cmd: list[str] | None = Field(None, alias="Cmd")
    labels: dict[str, str] | None = Field(None, alias="Labels")
    healthcheck: _Health | None = Field(None, alias="Healthcheck")


class _Step(BaseModel):
    created_by: str | None = None


class ImageSettings(BaseModel):
    """An image's configuration: what it runs, and the steps that built it.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
    """

    config: _Settings = Field(default_factory=_Settings)
    history: list[_Step] | None = None

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.config.env or ())

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.labels or {}

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the history, lowest layer first."""
        return tuple(step.created_by or "" for step in self.history or ())


@dataclass
class AuditFiles:
    """Files of an image that a rule asks for, by path from the root; a later layer removes and replaces.

    Attributes:
        kinds: what each file is.
        loader: the loader's configuration, by file.
        caches: bytes of package managers' caches in any layer, also where a later layer removes them.
    """

    kinds: dict[str, frozenset[AuditKind]] = field(default_factory=dict)
    loader: dict[str, str] = field(default_factory=dict)
    caches: dict[str, int] = field(default_factory=dict)

    def of(self, kind: AuditKind) -> set[str]:
        """The files of a kind."""
        return {path for path, kinds in self.kinds.items() if kind in kinds}

    def add(self, layer: Readable) -> None:
        """Put the next layer on top.

        Raises:
            BrokenTarError: it is no layer, or damaged.
        """
        tar, _ = tar_in(layer)
        if tar is None:
            raise BrokenTarError("unknown compression")
        self.put(files_of(tar))

    def put(self, other: "LayerChange") -> None:
        """Put what a layer changes on top."""
        for known in (self.kinds, self.loader):
            gone = [one for one in known if one in other.named or any(is_within(one, path) for path in other.removed)]
            for one in gone:
                del known[one]
        self.kinds |= other.files.kinds
        self.loader |= other.files.loader
        self.caches |= other.files.caches


@dataclass
class LayerChange:
    """What one layer adds, replaces (`named` has every path) and removes."""

    files: AuditFiles = field(default_factory=AuditFiles)
    named: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)


def files_of(tar: Readable) -> LayerChange:
    """Read the tar of a layer to its end.

    Raises:
        BrokenTarError: it is damaged.
    """
    found = LayerChange()
    for member, opened in members(tar):
        path = layer_path(member.name)
        if (removed := removed_by(path)) is not None:
            found.removed.add(removed)
        elif not member.isdir():
            found.named.add(path)
            _take(found.files, path, member)
            if path.startswith("etc/ld.so.conf") and member.isreg():
                found.files.loader[path] = opened().read(_LARGEST_TEXT).decode(errors="replace")
    return found


def _take(files: AuditFiles, path: str, member: TarInfo) -> None:
    if kinds := frozenset(_kinds(path, member)):
        files.kinds[path] = kinds
    if member.isreg() and member.size and is_cache(path):
        files.caches[path] = member.size


def _kinds(path: str, member: TarInfo) -> Iterator[AuditKind]:
    folder, name = posixpath.split(path)
    if member.mode & _SPECIAL and (member.isreg() or member.islnk()):
        yield "setuid"
    if posixpath.basename(folder) == "bin" and _is_compiler(name):
        yield "compiler"
    if name.startswith("ld-musl-") or path == "etc/alpine-release":
        yield "musl"
    if name.startswith("libcudart.so"):
        yield "cuda"
    if name.startswith("libcuda.so"):
        yield "driver"
    if path.endswith(".dist-info/METADATA"):
        yield "wheel"


def _is_compiler(name: str) -> bool:
    """`gcc`, `gcc-12` and `x86_64-linux-gnu-gcc-12`, but not `gcc-ar`."""
    return name.rstrip("0123456789.").removesuffix("-").rpartition("-")[2] in audit_table().compilers.programs


def read_saved_image(chunks: Iterable[bytes], name: str) -> tuple[ImageSettings, AuditFiles]:
    """Read an image as the engine saves it to its end.

    Raises:
        EngineError: the stream is not a complete image.
    """
    texts, layers, links = dict[str, bytes](), dict[str, LayerChange](), dict[str, str]()
    try:
        for member, opened in members(ByteStream(chunks)):
            if member.issym():  # a layer that is there twice, as older engines save it
                links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif member.isreg():
                stream = opened()
                tar, head = tar_in(stream)
                if tar:
                    layers[member.name] = files_of(tar)
                elif member.size <= _LARGEST_JSON:
                    texts[member.name] = head + _rest(stream)
        config, order = _listed(texts)
        files = _stacked(layers, [links.get(one, one) for one in order])
    except BrokenTarError as error:
        raise EngineError(
            f"cannot read image `{name}` as saved by the engine: {error}",
            hint=f"run `docker save {name} | tar -t >/dev/null`; if it fails, pull or build the image again",
        ) from error
    return config, files


def _stacked(layers: Mapping[str, LayerChange], order: Iterable[str]) -> AuditFiles:
    files = AuditFiles()
    for path in order:
        if path not in layers:
            raise BrokenTarError(f"the layer {path} is missing, or its compression is unknown")
        files.put(layers[path])
    return files


def _rest(stream: Readable) -> bytes:
    parts = list[bytes]()
    while part := stream.read(_LARGEST_JSON):
        parts.append(part)
    return b"".join(parts)


def _listed(texts: Mapping[str, bytes]) -> tuple[ImageSettings, tuple[str, ...]]:
    """The configuration, and the files of the layers, lowest first."""
    try:
        first = json.loads(texts["manifest.json"])[0]
        return settings_of(texts[first["Config"]]), tuple(str(layer) for layer in first["Layers"])
    except (ValueError, LookupError, TypeError) as error:
        raise BrokenTarError("its manifest.json lists no image") from error


def settings_of(document: bytes) -> ImageSettings:
    """Read an image's configuration.

    Raises:
        BrokenTarError: it is none.
    """
    try:
        return ImageSettings.model_validate_json(document)
    except ValidationError as error:
        raise BrokenTarError(f"its configuration is not valid: {error.errors()[0]['msg']}") from error
