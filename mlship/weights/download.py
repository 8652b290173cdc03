"""Downloads one model file into the cache: resumed after an interruption, kept only under its own hash."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING

from mlship import plain
from mlship.errors import CheckFailed, TransientError, UsageError
from mlship.project.weight_addresses import address_parts, hub_request
from mlship.redact import redact
from mlship.registry.client import TIMEOUT, http_session, opened, title_of
from mlship.registry.reference import Reference
from mlship.registry.s3 import s3_refusal
from mlship.registry.s3_settings import s3_bucket
from mlship.weights.locked import LockedFile

if TYPE_CHECKING:
    from requests import Response

_BLOCK = 1 << 20
_AGAIN = "run the same command again: what has arrived is kept"


@dataclass(frozen=True)
class Incoming:
    """A file as it arrives.

    Attributes:
        start: bytes that are here already; total: of the whole file, None if the server does not say.
    """

    start: int
    total: int | None
    parts: Iterator[bytes]


Progress = Callable[[int, int | None], None]


def download(address: str, cache: Path, locked: LockedFile | None, progress: Progress) -> tuple[Path, LockedFile]:
    """The file of an address, in the cache.

    Args:
        locked: what it has to be; None accepts what is there now.
        progress: called with the bytes that are here, and those of the whole file.

    Raises:
        CheckFailed: the file is not the locked one.
        UsageError: the address has no file, or access is denied.
        TransientError: the server does not answer; what arrived stays for the next time.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if locked and (cache / locked.sha256).is_file():
        return cache / locked.sha256, locked
    name = locked.sha256 if locked else hashlib.sha256(address.encode()).hexdigest()
    with (cache / f"{name}.part").open("a+b") as part:
        fcntl.flock(part, fcntl.LOCK_EX)  # another run downloads the same file
        found = _receive(address, part, locked, progress)
        if locked and (found.sha256, found.size) != (locked.sha256, locked.size):
            part.truncate(0)
            raise CheckFailed(
                f"{redact(address)} has another file than locked: {found.size} bytes with sha256 {found.sha256}",
                hint="run `mlship lock --upgrade` if the new file is meant; otherwise name the place of the locked one",
            )
        Path(part.name).rename(cache / found.sha256)
    return cache / found.sha256, found


def _receive(address: str, part: BufferedRandom, locked: LockedFile | None, progress: Progress) -> LockedFile:
    """Write what is missing, and hash all of it. Only a file whose hash is known is resumed."""
    if not locked:
        part.truncate(0)
    with _opened(address, part.seek(0, 2)) as incoming:
        part.truncate(incoming.start)
        part.seek(0)
        digest = hashlib.file_digest(part, "sha256")
        size = incoming.start
        for block in incoming.parts:
            part.write(block)
            digest.update(block)
            size += len(block)
            progress(size, incoming.total)
            if locked and size > locked.size:
                break
        part.flush()
    if incoming.total is not None and size < incoming.total:
        raise TransientError(f"{redact(address)} ended after {size} of {incoming.total} bytes", hint=_AGAIN)
    return LockedFile(address, digest.hexdigest(), size)


def _opened(address: str, start: int) -> AbstractContextManager[Incoming]:
    parts = address_parts(address)
    if "path" in parts:
        return _of_folder(Path(parts["path"]), start)
    if "image" in parts:
        return _of_registry(parts["image"], parts["file"])
    return _over_http(address, parts, start)


@contextmanager
def _of_folder(file: Path, start: int) -> Iterator[Incoming]:
    hint = "correct the address under `model.sources`, or mount the folder"
    if not file.is_file():
        raise UsageError(f"`{file}` is not a file", hint=hint)
    with file.open("rb") as stream:
        total = file.stat().st_size
        stream.seek(min(start, total))
        yield Incoming(min(start, total), total, iter(lambda: stream.read(_BLOCK), b""))


@contextmanager
def _over_http(address: str, parts: Mapping[str, str], start: int) -> Iterator[Incoming]:
    import requests

    shown, signed = redact(address), "bucket" in parts
    url, own = address, dict[str, str]()
    if signed:
        bucket = s3_bucket(parts["bucket"])
        url = bucket.url(parts["key"])
        own = bucket.signed("GET", url)
    elif parts:
        url, own = hub_request(parts)
    headers = {**own, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with http_session() as session:
            session.auth = session.auth if "Authorization" in own or signed else None
            answer = session.get(url, headers=headers, timeout=TIMEOUT, stream=True, allow_redirects=not signed)
            if answer.status_code == 416:  # all of it is here
                yield Incoming(start, start, iter(()))
                return
            if signed and answer.status_code not in {200, 206, 404}:
                raise s3_refusal(shown, answer.status_code, answer.text, answer.headers)
            _expect(answer, shown)
            begin = start if answer.status_code == 206 else 0
            length = answer.headers.get("Content-Length", "")
            total = begin + int(length) if length.isdecimal() else None
            yield Incoming(begin, total, answer.iter_content(_BLOCK))
    except requests.RequestException as error:
        untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
        why = "its certificate is not trusted" if untrusted else f"no answer ({type(error).__name__})"
        raise TransientError(f"cannot download {shown}: {why}", hint=_AGAIN) from error


def _expect(answer: "Response", shown: str) -> None:
    status = answer.status_code
    if status in {200, 206}:
        return
    if status in {401, 403}:
        hint = "put the credentials into ~/.netrc, or for Hugging Face a token into HF_TOKEN"
        raise UsageError(f"{shown}: access is denied (HTTP {status})", hint=hint)
    if status in {408, 425, 429} or status >= 500:
        raise TransientError(f"{shown} answered HTTP {status}", hint=_AGAIN)
    raise UsageError(f"{shown}: no such file (HTTP {status})", hint="correct the address under `model.sources`")


@contextmanager
def _of_registry(image: str, file: str) -> Iterator[Incoming]:
    """A layer of an artifact. Registries check it against its digest, so it is never resumed."""
    reference = Reference.parse(image)
    with opened(reference) as registry:
        manifest = registry.manifest(reference.version)
        rows = manifest.rows("layers") if manifest else []
        titles = {title_of(row): row for row in rows}
        row = titles.get(file) if file else rows[0] if len(rows) == 1 else None
        if row is None:
            named = ", ".join(sorted(filter(None, titles))) or "no file with a title"
            raise UsageError(f"`{image}` has {named}", hint="add `#FILE` with one of its files to the address")
        yield Incoming(0, plain.number_at(row, "size"), registry.layer(str(row.get("digest"))))
