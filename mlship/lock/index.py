"""What package indexes say about the files of a project: hashes, sizes, and the Python they need.

Indexes answer in JSON (PEP 691, with sizes: PEP 700) or HTML (PEP 503). pip's settings on this machine apply: its
indexes and find-links, proxies, certificates, netrc and timeouts. Nothing is downloaded but these pages.
"""

import json
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from pydantic import Field

from mlship.errors import TransientError
from mlship.lock.indexes import PipSettings, local_path
from mlship.lock.localfiles import LocalFile, local_files
from mlship.redact import redact
from mlship.versioned import adapter

if TYPE_CHECKING:
    from requests import Session

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST_BYTES = 64_000_000  # the largest page of PyPI has about 20 MB
_AT_ONCE = 8


@dataclass(frozen=True)
class IndexFile:
    """One file of a project, as an index describes it.

    Attributes:
        url: without its fragment; a local file has a file: address.
        sha256: hexadecimal; None if the index does not report it. Likewise size, in bytes.
        requires_python: such as `>=3.11`; empty without a limit.
    """

    filename: str
    url: str
    sha256: str | None
    size: int | None = None
    requires_python: str = ""

    @property
    def version(self) -> Version | None:
        """The version in the file name; None if it is no name of a wheel or source archive."""
        try:
            if self.filename.endswith(".whl"):
                return parse_wheel_filename(self.filename)[1]
            return parse_sdist_filename(self.filename)[1]
        except (InvalidWheelFilename, InvalidSdistFilename):
            return None


@dataclass(frozen=True)
class _JsonFile:
    """https://packaging.python.org/en/latest/specifications/simple-repository-api/#project-detail."""

    filename: str
    url: str
    hashes: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    requires_python: Annotated[str | None, Field(alias="requires-python")] = None


def project_files(settings: PipSettings, names: Iterable[str]) -> dict[str, tuple[IndexFile, ...]]:
    """The files of each project in every index and find-links of pip's settings, by canonical name.

    An index that does not answer, or has no page, adds nothing: what is unknown stays unknown.
    """
    wanted = sorted({str(canonicalize_name(name)) for name in names})
    local = local_files(settings, frozenset(wanted))
    with _session(settings) as session, ThreadPoolExecutor(_AT_ONCE) as pool:
        shared = [file for link in settings.find_links for file in _page(session, settings, link)]
        pages = pool.map(lambda name: [*_pages(session, settings, name)], wanted)
        return {
            name: tuple(dict.fromkeys((*_local(local, name), *found, *_of(shared, name))))
            for name, found in zip(wanted, pages, strict=True)
        }


def check_pages(settings: PipSettings, pages: Iterable[str]) -> None:
    """Check that pages of one CUDA's wheels can be reached. A missing page (404) means that there are no such wheels.

    pip would retry for each package, for minutes, and then take a build for another CUDA from PyPI.

    Raises:
        TransientError: a page cannot be reached.
    """
    from requests import RequestException

    with _session(settings) as session:
        for page in (page for page in pages if local_path(page) is None):
            try:
                status = session.get(page, timeout=float(settings.timeout or 15), stream=True).status_code
                problem = f"HTTP {status}" if status >= 500 else ""
            except RequestException as error:
                problem = type(error).__name__
            if problem:
                raise TransientError(
                    f"cannot reach the wheel index of the selected CUDA version: {redact(page)} ({problem})",
                    hint="check the network and `pip config list`, or set a mirror as `gpu.wheel_index` in mlship.yaml "
                    "(or MLSHIP_WHEEL_INDEX); then run `mlship lock` again",
                )


def _local(files: dict[str, LocalFile], name: str) -> Iterator[IndexFile]:
    """A local file is hashed only if its pin is chosen, so it has no hash here."""
    for filename, file in files.items():
        if file.name == name:
            yield IndexFile(filename, file.path.absolute().as_uri(), None, file.path.stat().st_size)


def _pages(session: "Session", settings: PipSettings, name: str) -> Iterator[IndexFile]:
    for index in settings.indexes():
        if local_path(index) is None:
            yield from _page(session, settings, f"{index.rstrip('/')}/{name}/")


def _of(files: Iterable[IndexFile], name: str) -> Iterator[IndexFile]:
    for file in files:
        project = (
            file.filename.partition("-")[0] if file.filename.endswith(".whl") else file.filename.rpartition("-")[0]
        )
        if canonicalize_name(project) == name:
            yield file


def _page(session: "Session", settings: PipSettings, address: str) -> tuple[IndexFile, ...]:
    """The files of one page; none for a local folder and for a page that cannot be read."""
    from requests import RequestException

    if local_path(address) is not None:
        return ()
    try:
        timeout = float(settings.timeout or 15)
        trusted = urlsplit(address).hostname in {host.partition(":")[0] for host in settings.trusted_hosts}
        verify = False if trusted else session.verify
        with session.get(address, headers={"Accept": _ACCEPT}, timeout=timeout, stream=True, verify=verify) as answer:
            if answer.status_code != 200:
                return ()
            data = b""
            for part in answer.iter_content(1 << 20):
                data += part
                if len(data) > _MOST_BYTES:
                    return ()
            kind = answer.headers.get("Content-Type", "")
        read = read_json if "json" in kind else read_html
        return tuple(read(data.decode("utf-8", "replace"), answer.url))
    except (RequestException, ValueError, OSError):
        return ()


def read_json(text: str, address: str) -> Iterator[IndexFile]:
    """The files of a page of JSON; malformed entries are left out."""
    try:
        page = json.loads(text)
    except (ValueError, RecursionError):
        return
    rows = page.get("files") if isinstance(page, dict) else None
    for row in rows if isinstance(rows, list) else []:
        try:
            file = adapter(_JsonFile).validate_python(row)
            url = urldefrag(urljoin(address, file.url)).url
        except ValueError:  # pydantic's errors are ValueErrors
            continue
        yield IndexFile(file.filename, url, file.hashes.get("sha256"), file.size, file.requires_python or "")


def read_html(text: str, address: str) -> Iterator[IndexFile]:
    """The files of a page of HTML, whose links may have a hash in the fragment."""
    page = _Links()
    page.feed(text)
    for link, requires in page.found:
        try:
            url, fragment = urldefrag(urljoin(address, link))
            filename = unquote(urlsplit(url).path).rpartition("/")[2]
        except ValueError:
            continue
        algorithm, _, digest = fragment.partition("=")
        yield IndexFile(filename, url, digest if algorithm == "sha256" else None, None, requires)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a" and values.get("href"):
            self.found.append((values["href"], unescape(values.get("data-requires-python", ""))))


@contextmanager
def _session(settings: PipSettings) -> Iterator["Session"]:
    """A session with pip's settings; passwords come from the addresses and from netrc, as in pip."""
    import requests

    with requests.Session() as session:
        session.headers["User-Agent"] = "mlship"
        if settings.cert:
            session.verify = str(settings.cert)
        if settings.client_cert:
            session.cert = str(settings.client_cert)
        session.proxies.update(
            {name.removesuffix("_proxy"): value for name, value in settings.proxies if name != "no_proxy"}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a host that the user trusts without a certificate
            yield session
