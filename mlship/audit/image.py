"""What an audit needs of an image: its configuration, and files of its layers by name and mode. Nothing runs."""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from tarfile import TarInfo
from typing import Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from mlship.audit.history import HistoryStep, history_steps
from mlship.audit.rules import audit_table, may_hold_credentials
from mlship.dockerfile.shell import SHELLS
from mlship.errors import EngineError, UsageError
from mlship.project.contents import is_binary
from mlship.project.credentials import find_credentials
from mlship.size.layer_paths import layer_path, removed_by
from mlship.size.stream import BrokenTarError, ByteStream, Readable, members, tar_in
from mlship.size.waste import is_cache

_LARGEST_JSON = 4_000_000  # bytes
_LARGEST_SCRIPT = 100_000  # bytes, also of a binary file in which credentials are searched for
_LARGEST_TEXT = 4 << 20  # bytes of a text that are searched; larger ones are vocabularies and data
_PROBED = 8192
_SPECIAL = 0o6000  # setuid and setgid
# A program with setuid or setgid; musl's loader; glibc; a Python for one of them; CUDA's runtime; libcuda.
AuditKind: TypeAlias = Literal["setuid", "compiler", "musl", "glibc", "musl-python", "glibc-python", "cuda", "driver"]
# auditwheel adds a hash to the names of libraries that it copies into a wheel.
_CUDA_RUNTIME = re.compile(r"libcudart(?:-[0-9a-f]+)?\.so")
# The sample keys and certificates of packages and of the system are public. Only folders that package managers own: a
# user's files can be anywhere else, also in /usr/app or /var/lib/app.
_PUBLISHED = re.compile(
    r"(?:^|/)(?:(?:site|dist)-packages|node_modules|lib/python[\d.]+|[\w.-]*(?:conda|mamba|miniforge)[\w.-]*/pkgs)/"
    r"|^(?:usr/(?:share|lib\w*|include)|lib\w*|var/(?:lib|cache)/(?:apk|apt|debconf|dnf|dpkg|pacman|rpm|ucf|yum))/"
)


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
    empty_layer: bool = False


class ImageSettings(BaseModel):
    """An image's configuration: what it runs, and the steps that built it.

    https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
    """

    rootfs: dict[str, object] | None = None
    config: _Settings = Field(default_factory=_Settings)
    history: list[_Step] | None = None

    @property
    def env(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.config.env or ())

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.labels or {}

    @property
    def steps(self) -> tuple[HistoryStep, ...]:
        """The steps of the history, lowest layer first."""
        return history_steps((step.created_by or "", step.empty_layer) for step in self.history or ())


@dataclass
class AuditFiles:
    """Files of an image that a rule asks for, by path from the root; a later layer removes and replaces.

    Attributes:
        kinds: what each file is.
        loader: the loader's configuration, by file.
        scripts: shell scripts that can be started.
        packages: the metadata of Python packages, with the number of their layer, from 0.
        caches: bytes of package managers' caches in any layer, also where a later layer removes them.
        credentials: what a file in any layer holds; files of packages and of the system are not read.
        private: other files in any layer whose names say that they may hold credentials.
        cut: texts of which only the first 4 MiB were searched.
        layers: how many there are.
    """

    kinds: dict[str, frozenset[AuditKind]] = field(default_factory=dict)
    loader: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    packages: dict[str, int] = field(default_factory=dict)
    caches: dict[str, int] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    layers: int = 0

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
        for known in (self.kinds, self.loader, self.scripts, self.packages):
            for path in [one for one in known if other.replaces(one)]:
                del known[path]
        self.kinds |= other.files.kinds
        self.loader |= other.files.loader
        self.scripts |= other.files.scripts
        self.packages |= dict.fromkeys(other.files.packages, self.layers)
        self.caches |= other.files.caches
        self.credentials |= other.files.credentials
        self.private |= other.files.private
        self.cut |= other.files.cut
        self.layers += 1


@dataclass
class LayerChange:
    """What one layer adds, replaces (`named` has every path) and removes."""

    files: AuditFiles = field(default_factory=AuditFiles)
    named: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def replaces(self, path: str) -> bool:
        """Whether a file of a lower layer is gone: itself, or a folder above it, which can become a link, too."""
        return any(one in self.named or one in self.removed for one in _upwards(path))


def _upwards(path: str) -> Iterator[str]:
    """A path, the folders above it, and the root."""
    while path:
        yield path
        path = posixpath.dirname(path)
    yield ""


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
            if member.isreg() and member.size and _is_read(path, member):
                _take_text(found.files, path, member, _searched(opened(), member.size))
    return found


def _take(files: AuditFiles, path: str, member: TarInfo) -> None:
    if kinds := frozenset(_kinds(path, member)):
        files.kinds[path] = kinds
    if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO")):
        files.packages[path] = 0
    if member.isreg() and member.size and is_cache(path):
        files.caches[path] = member.size


def _is_read(path: str, member: TarInfo) -> bool:
    if not _PUBLISHED.search(path):
        return True
    return member.size <= _LARGEST_SCRIPT and bool(member.mode & 0o111)


def _searched(stream: Readable, length: int) -> bytes:
    """What is searched of a file: the start of a text, all of a small binary file, and nothing of a larger one."""
    head = _first(stream, _PROBED)
    if length > _LARGEST_SCRIPT and is_binary(head):
        return b""
    return head + _first(stream, _LARGEST_TEXT - len(head))


def _take_text(files: AuditFiles, path: str, member: TarInfo, data: bytes) -> None:
    if path.startswith("etc/ld.so.conf"):
        files.loader[path] = data.decode(errors="replace")
    if member.mode & 0o111 and _interpreter(data) in SHELLS:
        files.scripts[path] = data.decode(errors="replace")
    if _PUBLISHED.search(path):
        return
    if credential := next(find_credentials(data), None):
        files.credentials[path] = credential.what
    elif may_hold_credentials(posixpath.basename(path)):
        files.private.add(path)
    elif data and len(data) < member.size:
        files.cut.add(path)


def _interpreter(data: bytes) -> str:
    """The program that a script's first line names, also after `env`; empty without one."""
    words = data[2:].partition(b"\n")[0].decode(errors="replace").split() if data.startswith(b"#!") else []
    names = [posixpath.basename(word) for word in words if not word.startswith("-")]
    return next((name for name in names if name != "env"), "")


def _kinds(path: str, member: TarInfo) -> Iterator[AuditKind]:
    folder, name = posixpath.split(path)
    if member.mode & _SPECIAL and (member.isreg() or member.islnk()):
        yield "setuid"
    if posixpath.basename(folder) == "bin" and _is_compiler(name):
        yield "compiler"
    if (name.startswith("ld-musl-") and ".so" in name) or path == "etc/alpine-release":
        yield "musl"
    if name == "libc.so.6":
        yield "glibc"
    if posixpath.basename(folder) == "lib-dynload" and name.endswith(("-linux-musl.so", "-linux-gnu.so")):
        yield "musl-python" if name.endswith("-linux-musl.so") else "glibc-python"
    if _CUDA_RUNTIME.match(name):
        yield "cuda"
    if name.startswith("libcuda.so"):
        yield "driver"


def _is_compiler(name: str) -> bool:
    """`gcc`, `gcc-12` and `x86_64-linux-gnu-gcc-12`, but not `gcc-ar`."""
    return name.rstrip("0123456789.").removesuffix("-").rpartition("-")[2] in audit_table().compilers.programs


def read_saved_image(chunks: Iterable[bytes], name: str) -> tuple[ImageSettings, AuditFiles]:
    """Read to its end what `docker save` writes, or an OCI archive; either may be compressed by gzip or zstd.

    Raises:
        EngineError: the stream is not a complete image.
    """
    texts, layers, links = dict[str, bytes](), dict[str, LayerChange](), dict[str, str]()
    try:
        for member, opened in members(_archive(chunks)):
            path = posixpath.normpath(member.name)
            if member.issym():  # a layer that is there twice, as older engines save it
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.isreg():
                stream = opened()
                tar, head = tar_in(stream)
                if tar:
                    layers[path] = files_of(tar)
                elif member.size <= _LARGEST_JSON:
                    texts[path] = head + _rest(stream)
        config, order = _listed(texts)
        files = _stacked(layers, [links.get(one, one) for one in order])
    except BrokenTarError as error:
        raise EngineError(
            f"cannot read the saved image `{name}`: {error}",
            hint="save it again: `docker save --output image.tar IMAGE`; if that fails, pull or build the image again",
        ) from error
    return config, files


def _archive(chunks: Iterable[bytes]) -> Readable:
    tar, _ = tar_in(ByteStream(chunks))
    if tar is None:
        raise BrokenTarError("it is no tar")
    return tar


def _stacked(layers: Mapping[str, LayerChange], order: Iterable[str]) -> AuditFiles:
    files = AuditFiles()
    for path in order:
        if path not in layers:
            raise BrokenTarError(f"the layer {path} is missing, or its compression is unknown")
        files.put(layers[path])
    return files


def _rest(stream: Readable) -> bytes:
    """All of a small file; `read` can return less than it is asked for."""
    parts = list[bytes]()
    while part := stream.read(_LARGEST_JSON):
        parts.append(part)
    return b"".join(parts)


def _first(stream: Readable, count: int) -> bytes:
    """Up to `count` bytes."""
    parts = list[bytes]()
    while count > 0 and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _listed(texts: Mapping[str, bytes]) -> tuple[ImageSettings, tuple[str, ...]]:
    """The configuration, and the files of the layers, lowest first."""
    try:
        if "manifest.json" in texts:
            one = _only(json.loads(texts["manifest.json"]))
            return settings_of(texts[one["Config"]]), tuple(str(layer) for layer in one["Layers"])
        # https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
        found = json.loads(texts["index.json"])
        while "manifests" in found:
            rows = [row for row in found["manifests"] if row.get("platform", {}).get("os") != "unknown"]
            found = json.loads(texts[_blob(_only(rows))])
        return settings_of(texts[_blob(found["config"])]), tuple(_blob(layer) for layer in found["layers"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BrokenTarError("it lists no image") from error


def _only(rows: list[dict[str, str]]) -> dict[str, str]:
    if len(rows) > 1:
        raise BrokenTarError(f"it holds {len(rows)} images, and one can be judged")
    return rows[0]


def _blob(descriptor: Mapping[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def settings_of(document: bytes) -> ImageSettings:
    """Read an image's configuration.

    Raises:
        BrokenTarError: it is none.
        UsageError: it is that of another artifact.
    """
    try:
        found = ImageSettings.model_validate_json(document)
    except ValidationError as error:
        raise BrokenTarError(f"its configuration is not valid: {error.errors()[0]['msg']}") from error
    if found.rootfs is None:  # a model or a chart, which registries keep, too
        raise UsageError(
            "this is not a container image: its configuration has no `rootfs`", hint="name an image or a Dockerfile"
        )
    return found
