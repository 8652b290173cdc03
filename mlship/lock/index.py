"""What package indexes say about the files of a project: hashes, sizes, and the Python they need.

pip's settings on this machine apply: its indexes and find-links, proxies, certificates, netrc and timeouts. Nothing is
downloaded but the indexes' pages.
"""

import io
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.indexes import PipSettings, local_path
from mlship.lock.localfiles import LocalFile, local_files
from mlship.lock.pages import IndexFile, read_html, read_json
from mlship.redact import redact

if TYPE_CHECKING:
    from requests import Response, Session

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST_BYTES = 64_000_000  # the largest page of PyPI has about 20 MB
_AT_ONCE = 8
_SECONDS = 15.0  # for an answer, and for a page
_ENDS = (1 << 16, 1 << 20, 1 << 24)  # bytes of the end of a wheel; more if its directory begins before
_AGAIN = "then run `mlship lock` again"
_NETWORK = f"check the network and `pip config list`, {_AGAIN}"
_LOGIN = "correct the user name and password in `~/.netrc` or in the address of the index (`pip config list`)"
_ADDRESS = f"correct the address of the index (`pip config list`), {_AGAIN}"
_CA = "set the bundle that contains this CA: `pip config set global.cert /path/to/ca.pem`, or PIP_CERT"
_BUSY = {408, 425, 429}
_REFUSED = {401: "the credentials are missing or wrong", 403: "access is forbidden, or it has no such package"}


class SilentIndexError(Exception):
    """An index gave no answer.

    Attributes:
        reason: such as "no connection"; empty if the address is not one.
        untrusted: whether its certificate is not trusted.
    """

    def __init__(self, error: Exception, address: str) -> None:
        self.untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
        self.reason = _reason(error, address)
        super().__init__(self.reason)


def _reason(error: Exception, address: str) -> str:
    from requests import exceptions

    if isinstance(error, exceptions.ConnectionError) and "NameResolution" in str(error):
        return f"the host name {urlsplit(address).hostname} cannot be resolved"
    reasons = {  # the first that fits
        exceptions.ProxyError: "the proxy does not answer",
        exceptions.TooManyRedirects: "it redirects without end",
        exceptions.Timeout: "no answer in time",
        exceptions.ChunkedEncodingError: "the connection broke",
        exceptions.ConnectionError: "no connection",
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), "")


def project_files(settings: PipSettings, names: Iterable[str]) -> dict[str, tuple[IndexFile, ...]]:
    """The files of each project in every index and find-links of pip's settings, by canonical name.

    An index that does not answer, or has no page, adds nothing: what is unknown stays unknown.
    """
    wanted = sorted({str(canonicalize_name(name)) for name in names})
    local = local_files(settings, frozenset(wanted))
    indexes = [index.rstrip("/") for index in settings.indexes()]
    with page_reader(settings) as reader, ThreadPoolExecutor(_AT_ONCE) as pool:
        shared = [file for link in settings.find_links for file in reader.page(link)]
        pages = pool.map(lambda name: [file for index in indexes for file in reader.page(f"{index}/{name}/")], wanted)
        return {
            name: tuple(dict.fromkeys((*_local(local, name), *found, *_of(shared, name))))
            for name, found in zip(wanted, pages, strict=True)
        }


def check_pages(settings: PipSettings, pages: Iterable[str], alone: Sequence[str] = ()) -> None:
    """Check that pages of one CUDA's wheels can be reached. A missing page (404) means that there are no such wheels.

    pip would retry for each package, for minutes, and then take a build for another CUDA from PyPI.

    Args:
        alone: limits of versions with which these pages are not needed.

    Raises:
        TransientError: a page cannot be reached.
    """
    with page_reader(settings) as reader:
        for page in (page for page in pages if local_path(page) is None):
            try:
                status = reader.get(page).status_code
                problem = f"HTTP {status}" if status >= 500 else ""
            except SilentIndexError as error:
                problem = error.reason or "not an address"
            if problem:
                limits = " and ".join(f"`{limit}`" for limit in alone)
                other = f"require {limits}, which these hosts run from pip's own index; or " if limits else ""
                raise TransientError(
                    f"cannot reach the wheel index of the selected CUDA version: {redact(page)} ({problem})",
                    hint=f"{other}check the network and `pip config list`, or set a mirror as `gpu.wheel_index` in "
                    "mlship.yaml (or MLSHIP_WHEEL_INDEX); then run `mlship lock` again",
                )


def _local(files: dict[str, LocalFile], name: str) -> Iterator[IndexFile]:
    """A local file is hashed only if its pin is chosen, so it has no hash here."""
    for filename, file in files.items():
        if file.name == name:
            yield IndexFile(filename, file.path.absolute().as_uri(), None, file.path.stat().st_size)


def _of(files: Iterable[IndexFile], name: str) -> Iterator[IndexFile]:
    for file in files:
        own = file.filename
        if canonicalize_name(own.partition("-")[0] if own.endswith(".whl") else own.rpartition("-")[0]) == name:
            yield file


@contextmanager
def page_reader(settings: PipSettings) -> Iterator["PageReader"]:
    """Read pages with pip's settings."""
    with _session(settings) as session:
        yield PageReader(settings, session)


@dataclass(frozen=True)
class PageReader:
    """Reads pages within limits, because hashes and sizes must not hold up a lock.

    Attributes:
        silent: hosts that did not answer once; they are not asked again.
    """

    settings: PipSettings
    session: "Session"
    silent: set[str] = field(default_factory=set)

    def page(self, address: str) -> tuple[IndexFile, ...]:
        """The files of one page; none for a local folder and for a page that cannot be read."""
        host = address.partition("://")[2].partition("/")[0]
        if local_path(address) is not None or host in self.silent:
            return ()
        try:
            return self._read(address)
        except SilentIndexError:
            self.silent.add(host)
            return ()

    def get(self, address: str) -> "Response":
        """The answer to a request for a page; its body is not read yet.

        Raises:
            SilentIndexError: there is none.
        """
        from requests import RequestException

        try:
            trusted = urlsplit(address).hostname in {host.partition(":")[0] for host in self.settings.trusted_hosts}
            verify = False if trusted else self.session.verify
            seconds = min(_SECONDS, float(self.settings.timeout or _SECONDS))
            return self.session.get(address, headers={"Accept": _ACCEPT}, timeout=seconds, stream=True, verify=verify)
        except (RequestException, ValueError, OSError) as error:
            raise SilentIndexError(error, address) from error

    def body(self, answer: "Response") -> bytes | None:
        """The body of an answer; None if it is too large or too slow.

        Raises:
            SilentIndexError: the connection broke.
        """
        from requests import RequestException

        data, end = b"", time.monotonic() + _SECONDS
        try:
            for part in answer.iter_content(1 << 20):
                data += part
                if len(data) > _MOST_BYTES or time.monotonic() > end:
                    return None
        except (RequestException, OSError) as error:
            raise SilentIndexError(error, answer.url) from error
        return data

    def _read(self, address: str) -> tuple[IndexFile, ...]:
        with self.get(address) as answer:
            data = self.body(answer) if answer.status_code == 200 else None
        read = read_json if "json" in answer.headers.get("Content-Type", "") else read_html
        return tuple(read((data or b"").decode("utf-8", "replace"), answer.url))


def index_fault(settings: PipSettings, names: Iterable[str]) -> MlshipError | None:
    """The error of the first index without an answer about a package; None if all of them answer."""
    indexes = [index.rstrip("/") for index in settings.indexes() if local_path(index) is None]
    with page_reader(settings) as reader:
        for index in indexes:
            for name in names:
                if error := _problem(reader, index, name):
                    return error
    return None


def _problem(reader: PageReader, index: str, name: str) -> MlshipError | None:
    try:
        with reader.get(f"{index}/{canonicalize_name(name)}/") as answer:
            status, kind = answer.status_code, answer.headers.get("Content-Type", "")
            reader.body(answer)
    except SilentIndexError as error:
        return _without_answer(error, redact(index))
    shown = f"the package index {redact(index)} answered HTTP {status} for `{name}`"
    if status == 407:
        hint = f"correct the user name and password of the proxy (`pip config list`, HTTPS_PROXY), {_AGAIN}"
        return UsageError(f"the proxy rejected the credentials (HTTP 407) for {redact(index)}", hint=hint)
    if status in _REFUSED:
        return UsageError(f"{shown}: {_REFUSED[status]}", hint=_LOGIN)
    if status in _BUSY or status >= 500:
        return TransientError(f"{shown}: it is overloaded or failing", hint=f"wait a few minutes, {_AGAIN}")
    if status == 200 and not any(word in kind for word in ("html", "json")):
        found = f"the package index {redact(index)} answers with `{kind or 'no content type'}`, not a list of files"
        return TransientError(found, hint=f"check the address (`pip config list`) and the network's login, {_AGAIN}")
    known = status in {200, 404, 410}
    return None if known else UsageError(f"{shown}: it is not the address of an index", hint=_ADDRESS)


def _without_answer(error: SilentIndexError, index: str) -> MlshipError:
    if error.untrusted:
        why = f"the certificate of the package index {index} is not trusted (a company proxy may use its own CA)"
        return UsageError(why, hint=_CA)
    if not error.reason:
        return UsageError(f"`{index}` is not an address of a package index", hint=_ADDRESS)
    return TransientError(f"cannot reach the package index {index}: {error.reason}", hint=_NETWORK)


def remote_names(settings: PipSettings, file: IndexFile) -> tuple[str, ...]:
    """The names of the files in a wheel of an index; they are at its end, so only that is downloaded.

    Raises:
        OSError: the server does not answer, or not with a part of the file.
        BadZipFile: it is no wheel.
    """
    seconds = float(settings.timeout or _SECONDS)
    with _session(settings) as session:
        head = None if file.size else session.head(file.url, allow_redirects=True, timeout=seconds)
        size = file.size or int(head.headers.get("Content-Length", 0) if head is not None else 0)
        for part in _ENDS:
            wanted = {"Range": f"bytes={max(0, size - part)}-{size - 1}", "Accept-Encoding": "identity"}
            with session.get(file.url, headers=wanted, stream=True, timeout=seconds) as answer:
                if answer.status_code != 206:
                    raise OSError("the server does not answer range requests")
                end = answer.content
            with suppress(zipfile.BadZipFile, ValueError), zipfile.ZipFile(io.BytesIO(end)) as archive:
                return tuple(archive.namelist())
    raise zipfile.BadZipFile(f"{file.filename} has no directory at its end")


@contextmanager
def _session(settings: PipSettings) -> Iterator["Session"]:
    """A session with pip's settings; passwords come from the addresses and from netrc, as in pip."""
    import requests

    with requests.Session() as session:
        session.headers["User-Agent"] = "mlship"
        session.verify = str(settings.cert) if settings.cert else True
        session.cert = str(settings.client_cert) if settings.client_cert else None
        proxies = ((name, value) for name, value in settings.proxies if name != "no_proxy")
        session.proxies.update((name.removesuffix("_proxy"), value) for name, value in proxies)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a host that the user trusts without a certificate
            yield session
