"""Pages of package indexes as values: JSON (PEP 691, with sizes: PEP 700) or HTML (PEP 503). Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from html.parser import HTMLParser
from typing import Annotated
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from pydantic import Field

from mlship import plain
from mlship.requirement_line import package_version
from mlship.versioned import adapter


def release_in(address: str) -> tuple[NormalizedName, Version] | None:
    """The project and version of a wheel or source archive, by the file name that an address or path ends in."""
    name = unquote(address.partition("#")[0]).rpartition("/")[2]
    try:
        return parse_wheel_filename(name)[:2] if name.endswith(".whl") else parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


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

    def is_of(self, version: Version) -> bool:
        """Whether the file is a wheel or source archive of this version."""
        name = self.filename
        wheel = name.endswith(".whl")
        # Pages have thousands of files with few versions: reading each name whole takes seconds.
        text = name.split("-", 2)[1:2] if wheel else [name.removesuffix(".tar.gz").removesuffix(".zip").split("-")[-1]]
        found = release_in(name) if version in map(_version_in, text) else None
        return found is not None and found[1] == version


_version_in = lru_cache(maxsize=10_000)(package_version)


@dataclass(frozen=True)
class _JsonFile:
    """https://packaging.python.org/en/latest/specifications/simple-repository-api/#project-detail."""

    filename: str
    url: str
    hashes: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    requires_python: Annotated[str | None, Field(alias="requires-python")] = None


def read_json(text: str, address: str) -> Iterator[IndexFile]:
    """The files of a page of JSON; malformed entries are left out."""
    for row in plain.items(plain.json_of(text), "files"):
        try:
            file = adapter(_JsonFile).validate_python(row)
            url = _joined(address, file.url)
        except ValueError:  # pydantic's errors are ValueErrors
            continue
        yield IndexFile(file.filename, url, file.hashes.get("sha256"), file.size, file.requires_python or "")


def read_html(text: str, address: str) -> Iterator[IndexFile]:
    """The files of a page of HTML, whose links may have a hash in the fragment."""
    page = _Links()
    page.feed(text)
    for link, requires in page.found:
        try:
            url, fragment = _joined(address, link), urldefrag(link).fragment
            filename = unquote(urlsplit(url).path).rpartition("/")[2]
        except ValueError:
            continue
        algorithm, _, digest = fragment.partition("=")
        yield IndexFile(filename, url, digest if algorithm == "sha256" else None, None, requires)


def _joined(page: str, link: str) -> str:
    """The address of a link without its fragment; most are whole addresses, and parsing thousands takes seconds."""
    link = link.partition("#")[0]
    return link if link.startswith("https://") else urljoin(page, link)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a" and values.get("href"):
            self.found.append((values["href"], unescape(values.get("data-requires-python", ""))))
