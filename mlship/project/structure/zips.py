"""Zip archives of models: .npz, .keras, skops and PyTorch. Members fill the archive, and each is checked as a file."""

import io
import json
import struct
import zipfile
from typing import IO, Literal, TypeAlias, cast

from mlship.project.pickles import is_pickle, is_text
from mlship.project.structure.arrays import numpy_is_whole
from mlship.project.structure.cursor import Buffer, require
from mlship.project.structure.keras import config_has_code, hdf5_is_whole

ZipKind: TypeAlias = Literal["torch", "pickle", "keras", "keras-lambda", "skops", "npz", "numpy-objects"]
_MEMBERS = 10_000
_HEAD = 1 << 14  # bytes of each member that show what it is
_JSON = 16 << 20
_DIRECTORY = 16 << 20
_WIDE = 0xFFFFFFFF  # the size is in the record for large archives
_INSIDE = 64 << 20
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_DESCRIPTORS = (0, 12, 16, 20, 24)
_END = 22
_PICKLES = ("data.pkl", "constants.pkl")


def zip_kind(data: Buffer) -> ZipKind:
    """What an archive is.

    Raises:
        ValueError, zipfile.BadZipFile and others: it is not whole, or of no known kind.
    """
    with _opened(data) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if any(name.rpartition("/")[2] in _PICKLES for name in names):
            return "torch"
        require(0 < len(members) <= _MEMBERS, "no members, or too many")
        if any(is_pickle(io.BytesIO(_head(archive, member))) for member in members):
            return "pickle"
        _check_layout(data, archive)
        if {"config.json", "metadata.json"} <= names:
            return _keras(archive)
        return _skops(archive) if "schema.json" in names else _npz(archive)


def check_texts(data: Buffer) -> None:
    """Check an archive of small texts."""
    with _opened(data) as archive:
        _check_layout(data, archive)
        for member in archive.infolist():
            content = _head(archive, member)
            require(member.file_size <= _HEAD and is_text(content) and not is_pickle(io.BytesIO(content)), "no text")


def _check_layout(data: Buffer, archive: zipfile.ZipFile) -> None:
    """Members, directory and end record follow each other from the first byte to the last, each once."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    require(len({member.filename for member in members}) == len(members), "two members have one name")
    at = 0
    for member in members:
        require(member.header_offset in [at + size for size in _DESCRIPTORS if at or not size], "a gap")
        at = member.header_offset
        fields = _LOCAL.unpack_from(data, at)
        name = data[at + 30 : at + 30 + fields[9]]
        require(fields[0] == b"PK\x03\x04" and not member.flag_bits & 1, "no header, or encrypted")
        require(name == (member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")), "two names")
        require(fields[3] == member.compress_type and member.compress_type in (0, 8), "an unusual compression")
        at += 30 + fields[9] + fields[10] + member.compress_size
    require(archive.start_dir in [at + size for size in _DESCRIPTORS], "bytes between the members and the directory")
    end = data[len(data) - _END :]
    require(end[:4] == b"PK\x05\x06" and end[-2:] == b"\x00\x00", "bytes follow the directory")


def _opened(data: Buffer) -> zipfile.ZipFile:
    """An archive with a directory of a bounded size."""
    end = data[max(0, len(data) - _END) :]
    require(len(end) == _END, "too short")
    size = int.from_bytes(end[12:16], "little")
    require(size < _DIRECTORY or size == _WIDE, "its directory is too large")
    if size == _WIDE:
        require(
            int.from_bytes(data[len(data) - 58 : len(data) - 50], "little") < _DIRECTORY, "its directory is too large"
        )
    return zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else cast("IO[bytes]", data))


def _head(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int = _HEAD) -> bytes:
    with archive.open(member) as file:
        return file.read(size)


def _json(archive: zipfile.ZipFile, name: str) -> bytes:
    text = _head(archive, archive.getinfo(name), _JSON)
    require(len(text) < _JSON, "too large")
    return text


def _keras(archive: zipfile.ZipFile) -> ZipKind:
    """https://keras.io/api/models/model_saving_apis/model_saving_and_loading: a configuration, weights and assets."""
    json.loads(_json(archive, "metadata.json"))
    kind: ZipKind = "keras-lambda" if config_has_code(_json(archive, "config.json")) else "keras"
    for member in archive.infolist():
        name = member.filename
        if name in ("config.json", "metadata.json") or name.endswith("/"):
            continue
        if name.endswith(".h5"):
            hdf5_is_whole(_head(archive, member), member.file_size)
        elif name.endswith(".npz"):
            _npz(_opened(_stored(archive, member)))
        else:
            require(name.startswith("assets/"), "an unknown member")
    return kind


def _stored(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    require(member.file_size <= _INSIDE, "a member is too large to check")
    return _head(archive, member, _INSIDE)


def _skops(archive: zipfile.ZipFile) -> ZipKind:
    """https://skops.readthedocs.io/en/stable/persistence.html: a schema, and arrays without Python objects."""
    schema = json.loads(_json(archive, "schema.json"))
    require({"protocol", "__module__", "__class__"} <= set(schema), "no schema")
    for member in archive.infolist():
        if member.filename.endswith(".npz"):
            require(_npz(_opened(_stored(archive, member))) == "npz", "objects in a sparse matrix")
        elif member.filename != "schema.json" and not member.filename.endswith(".bin"):
            require(numpy_is_whole(_head(archive, member), member.file_size), "objects in an array")
    return "skops"


def _npz(archive: zipfile.ZipFile) -> ZipKind:
    members = archive.infolist()
    require(bool(members) and all(member.filename.endswith(".npy") for member in members), "no arrays")
    plain = [numpy_is_whole(_head(archive, member), member.file_size) for member in members]
    return "npz" if all(plain) else "numpy-objects"
