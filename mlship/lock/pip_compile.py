"""pip-compile, with three differences.

Hashes in the links of an index page are trusted, as pip trusts them. Without a JSON API, pip-tools would download every
file of a version to hash it: twenty files of 800 MB for one torch from download.pytorch.org. pip checks the same hashes
when it installs.

An unreachable page of one CUDA's wheels ends the run at once. pip would retry for each package, for minutes, and then
take a build for another CUDA from PyPI.

If MLSHIP_SIZES names a file, it receives the size in bytes of the file that each pin would install, as JSON. Sizes come
from the server without a download; unknown ones are absent.

The resolver's Python may differ from mlship's, so this uses only the standard library and pip-tools.
"""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pip._internal.models.link import Link
    from pip._internal.network.session import PipSession
    from piptools.repositories.pypi import PyPIRepository


def trust_links() -> None:
    """Let pip-tools take the sha256 in a link's fragment."""
    from piptools.repositories.pypi import PyPIRepository

    hashed = PyPIRepository._get_file_hash  # noqa: SLF001  pip-tools has no public way

    def file_hash(self: "PyPIRepository", link: "Link") -> str:
        return f"sha256:{link.hash}" if link.hash_name == "sha256" and link.hash else hashed(self, link)

    PyPIRepository._get_file_hash = file_hash  # type: ignore[method-assign]  # noqa: SLF001


_CUDA_PAGE = re.compile(r"/cu[0-9]{2,4}/[a-z0-9-]+/$")


def need_pages() -> None:
    """Make pip fail if it cannot connect to such a page. A missing page (404) means that there are no such wheels."""
    from pip._internal.index import collector

    name = "_handle_get_simple_fail"
    original = getattr(collector, name, None)
    if original is None:
        return  # another version of pip, which retries

    def fail(link: "Link", reason: str | Exception, **more: object) -> None:
        original(link, reason, **more)
        if isinstance(reason, str) and _CUDA_PAGE.search(link.url_without_fragment):
            sys.exit(f"no connection to the wheel index {link.redacted_url}: {reason}")

    setattr(collector, name, fail)


def remember_repository() -> "list[PyPIRepository]":
    """A list that pip-tools' repository is added to when it is created."""
    from piptools.repositories.pypi import PyPIRepository

    made: list[PyPIRepository] = []
    initialise = PyPIRepository.__init__

    def init(self: "PyPIRepository", *arguments: object, **more: object) -> None:
        made.append(self)
        initialise(self, *arguments, **more)  # type: ignore[arg-type]

    PyPIRepository.__init__ = init  # type: ignore[method-assign]
    return made


_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


def sizes(repository: "PyPIRepository", lock: str) -> "dict[str, dict[str, object]]":
    """The file that each pin of the lock installs, with its size in bytes, by package."""
    links = dict(_links(repository, lock))
    with ThreadPoolExecutor(8) as pool:
        known = pool.map(lambda link: _size(repository.session, link), links.values())
        found = zip(links.items(), known, strict=True)
        return {name: {"file": link.filename, "size": size} for (name, link), size in found if size}


def _links(repository: "PyPIRepository", lock: str) -> "Iterator[tuple[str, Link]]":
    for name, version in _PIN.findall(lock):
        candidates = [one for one in repository.find_all_candidates(name) if str(one.version) == version]
        best = repository.finder.make_candidate_evaluator(name).compute_best_candidate(candidates).best_candidate
        if best:
            yield name, best.link


def _size(session: "PipSession", link: "Link") -> int:
    """Bytes; 0 if unknown."""
    try:
        if link.is_file:
            return os.path.getsize(link.file_path)  # noqa: PTH202  standard library, and pip's own path is a str
        url, plain = link.url_without_fragment, {"Accept-Encoding": "identity"}
        answer = session.head(url, headers=plain, allow_redirects=True, timeout=20)
        return int(answer.headers.get("Content-Length", 0)) if answer.ok else 0
    except Exception:  # noqa: BLE001  pip and its adapters raise many types, and a missing size is no reason to fail
        return 0


def write_sizes(made: "list[PyPIRepository]", path: str) -> None:
    """Write the sizes of the finished lock to `path`."""
    output = sys.argv[sys.argv.index("--output-file") + 1]
    with open(output, encoding="utf-8") as file:  # noqa: PTH123
        found = sizes(made[-1], file.read())
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(found, file)


if __name__ == "__main__":
    trust_links()
    need_pages()
    repositories = remember_repository()
    from piptools.__main__ import cli

    sys.argv[0] = "pip-compile"
    try:
        cli()
    except SystemExit as end:
        if end.code:
            raise
    if "MLSHIP_SIZES" in os.environ:
        write_sizes(repositories, os.environ["MLSHIP_SIZES"])
