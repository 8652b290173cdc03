"""Where registered models are: a folder, a bucket of S3 or a registry. No store ever changes what it has.

Each has `models/NAME/COMMIT/TIME/` with the files and, written last, `metadata.json`; a registry has a repository NAME
with the tag COMMIT-TIME.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlship.errors import CheckFailed, UsageError
from mlship.files import has_content
from mlship.leftovers import temporary_folder
from mlship.models.registered import METADATA_FILE, ModelVersion
from mlship.project.training import TrainedFile
from mlship.registry.client import OCI_MANIFEST, TITLE, JsonValue, content, json_content, manifest_of, opened, title_of
from mlship.registry.reference import Reference
from mlship.registry.s3 import opened_bucket
from mlship.registry.s3_upload import put_file
from mlship.weights.fetch import Watch

# https://github.com/modelpack/model-spec/blob/main/docs/spec.md
_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
_NOTE = "application/vnd.cncf.model.doc.v1.raw"
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?(?P<prefix>[^\s?#]*)")
_OCI = re.compile(r"oci://(?P<host>[\w.-]+(:\d+)?)(?P<path>(/[a-z0-9._-]+)*)/?")
_CHANGED = "train again, or find out who changed the file"


@dataclass(frozen=True)
class StoredFile:
    """A file to register: where it is now, and what it must be."""

    source: Path
    described: TrainedFile


class ModelStore(Protocol):
    """A place for registered models.

    Every verb raises UsageError if the store refuses, and TransientError if it does not answer.
    """

    def versions(self, name: str | None) -> Iterable[ModelVersion]:
        """All versions, of one name or of all."""

    def metadata(self, version: ModelVersion) -> bytes | None:
        """The metadata of a version; None if there is no such version."""

    def address(self, version: ModelVersion, file: str) -> str:
        """The address of a file of a version, as `model.sources` has it."""

    def put(self, version: ModelVersion, files: Mapping[str, StoredFile], metadata: bytes) -> bool:
        """Store a version, whole or not at all; False, and nothing is changed, if it is there.

        Raises:
            CheckFailed: a file is not what it must be.
        """


def open_store(address: str, uploading: Watch = lambda _path: nullcontext(lambda _done, _total: None)) -> ModelStore:
    """The store of an address: `s3://BUCKET/PREFIX`, `oci://REGISTRY/PATH` or a folder.

    Args:
        uploading: reports the progress of the upload of a large file.

    Raises:
        UsageError: it is none of them.
    """
    if found := _S3.fullmatch(address):
        return BucketStore(found["bucket"], f"{found['prefix'].strip('/')}/models/".lstrip("/"), uploading)
    if found := _OCI.fullmatch(address):
        return RegistryStore(f"{found['host']}{found['path']}")
    if "://" in address:
        raise UsageError(
            f"`{address}` is not a store of models", hint="use s3://BUCKET/PREFIX, oci://REGISTRY/PATH or a folder"
        )
    return FolderStore(Path(address).expanduser().absolute())


class FolderStore:
    """A folder; one rename makes a version visible."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "models"

    def versions(self, name: str | None) -> Iterator[ModelVersion]:
        if not self._root.is_dir():
            raise UsageError(
                f"no folder `{self._root}`", hint="check `--store`, or register a model first: `mlship register`"
            )
        for path in self._root.glob(f"*/*/*/{METADATA_FILE}"):  # a name may have a `*` or a `/`
            found = ModelVersion.parse(path.parent.relative_to(self._root).as_posix())
            if found and name in (None, found.name):
                yield found

    def metadata(self, version: ModelVersion) -> bytes | None:
        try:
            return (self._root / str(version) / METADATA_FILE).read_bytes()
        except FileNotFoundError:
            return None

    def address(self, version: ModelVersion, file: str) -> str:
        return f"file://{self._root / str(version) / file}"

    def put(self, version: ModelVersion, files: Mapping[str, StoredFile], metadata: bytes) -> bool:
        target = self._root / str(version)
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder("register", beside=target) as temporary:
            for name, file in files.items():
                place = temporary / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.source, place)
                check_stored(place, name, file.described)
                _settle(place)
            (temporary / METADATA_FILE).write_bytes(metadata)
            _settle(temporary / METADATA_FILE)
            temporary.chmod(0o755)
            with suppress(OSError):  # another writer was first
                temporary.rename(target)
                return True
        if not target.exists():
            raise UsageError(f"cannot write `{target}`", hint="check the folder's permissions")
        return False


def _settle(path: Path) -> None:
    """Read-only, and on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.chmod(0o444)


class BucketStore:
    """A bucket: objects are only created, and a version exists once its metadata does."""

    def __init__(self, bucket: str, prefix: str, uploading: Watch) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._uploading = uploading

    def versions(self, name: str | None) -> Iterator[ModelVersion]:
        with opened_bucket(self._bucket) as bucket:
            for key in bucket.keys(f"{self._prefix}{f'{name}/' if name else ''}"):
                folder, _, file = key.removeprefix(self._prefix).rpartition("/")
                found = ModelVersion.parse(folder) if file == METADATA_FILE else None
                if found:
                    yield found

    def metadata(self, version: ModelVersion) -> bytes | None:
        with opened_bucket(self._bucket) as bucket:
            found = bucket.read(f"{self._prefix}{version}/{METADATA_FILE}")
            return None if found is None else b"".join(found)

    def address(self, version: ModelVersion, file: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{version}/{file}"

    def put(self, version: ModelVersion, files: Mapping[str, StoredFile], metadata: bytes) -> bool:
        if self.metadata(version) is not None:
            return False
        for name, file in files.items():
            check_stored(file.source, name, file.described)
            self._put_file(f"{self._prefix}{version}/{name}", name, file)
        with opened_bucket(self._bucket) as bucket:
            return bucket.put_new(f"{self._prefix}{version}/{METADATA_FILE}", metadata)

    def _put_file(self, key: str, name: str, file: StoredFile) -> None:
        with opened_bucket(self._bucket) as bucket:
            with self._uploading(name) as progress:
                if put_file(bucket, key, file.source, file.described.sha256, progress):
                    return
            there = hashlib.sha256()  # of a run that was killed, or of another writer
            for part in bucket.read(key) or ():
                there.update(part)
        if there.hexdigest() != file.described.sha256:
            raise CheckFailed(
                f"`s3://{self._bucket}/{key}` exists and is not this `{name}`", hint="train again and register that"
            )


class RegistryStore:
    """A registry: each version is an artifact as of the ModelPack specification."""

    def __init__(self, path: str) -> None:
        self._path = path

    def versions(self, name: str | None) -> Iterator[ModelVersion]:
        if name is None:
            raise UsageError(
                f"`oci://{self._path}`: a registry does not list its repositories",
                hint="name a model: `mlship models ls NAME`",
            )
        with opened(self._reference(name, "latest")) as registry:
            tags = registry.tags()
        for tag in tags:
            commit, _, time = tag.partition("-")
            found = ModelVersion.parse(f"{name}/{commit}/{time}")
            if found:
                yield found

    def metadata(self, version: ModelVersion) -> bytes | None:
        reference = self._reference(version.name, version.tag)
        with opened(reference) as registry:
            manifest = registry.manifest(version.tag)
            if manifest is None:
                return None
            row = next((row for row in manifest.rows("layers") if title_of(row) == METADATA_FILE), {})
            blob = registry.blob(str(row.get("digest")))
            if blob is None:
                raise CheckFailed(f"`{reference}` has no {METADATA_FILE}", hint="register the model again")
            return blob.data

    def address(self, version: ModelVersion, file: str) -> str:
        reference = self._reference(version.name, version.tag)
        with opened(reference) as registry:
            manifest = registry.manifest(version.tag)
        if manifest is None:
            raise UsageError(f"`{reference}` does not exist", hint="run `mlship models ls` again")
        return f"oci://{reference.at(manifest.digest)}#{file}"

    def put(self, version: ModelVersion, files: Mapping[str, StoredFile], metadata: bytes) -> bool:
        note = content(_NOTE, metadata)
        layers: list[JsonValue] = [
            _layer(_WEIGHT, name, f"sha256:{file.described.sha256}", file.described.size)
            for name, file in sorted(files.items())
        ]
        layers.append(_layer(_NOTE, METADATA_FILE, note.digest, len(metadata)))
        config = json_content(_CONFIG, _config(version, layers))
        manifest = manifest_of(OCI_MANIFEST, artifactType=_ARTIFACT, config=config.descriptor, layers=layers)
        with opened(self._reference(version.name, version.tag)) as registry:
            if registry.manifest(version.tag) is not None:
                return False
            for name, file in files.items():
                check_stored(file.source, name, file.described)
                registry.put_file(file.source, f"sha256:{file.described.sha256}")
            for blob in (note, config):
                registry.put_blob(blob)
            if registry.manifest(version.tag) is not None:
                return False
            registry.put_manifest(manifest, version.tag)
            return True

    def _reference(self, name: str, version: str) -> Reference:
        return Reference.parse(f"{self._path}/{name}:{version}")


def _layer(media_type: str, name: str, digest: str, count: int) -> dict[str, JsonValue]:
    notes: dict[str, JsonValue] = {TITLE: name, "org.cncf.model.filepath": name}
    return {"mediaType": media_type, "digest": digest, "size": count, "annotations": notes}


def _config(version: ModelVersion, layers: Iterable[JsonValue]) -> JsonValue:
    """https://github.com/modelpack/model-spec/blob/main/docs/config.md."""
    digests = [row.get("digest") for row in layers if isinstance(row, dict)]
    return {
        "descriptor": {"name": version.name, "version": version.tag, "revision": version.commit},
        "config": {},
        "modelfs": {"type": "layers", "diffIds": digests},
    }


def check_stored(path: Path, name: str, described: TrainedFile) -> None:
    """Refuse a file that is not the described one.

    Raises:
        CheckFailed: its content differs.
    """
    if not has_content(path, described.sha256, described.size):
        raise CheckFailed(f"`{name}` is not the file that its {METADATA_FILE} describes", hint=_CHANGED)
