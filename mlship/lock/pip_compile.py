"""pip-compile, with two differences.

A hash that a page of links gives is taken, as pip itself takes it: pip-tools downloads every file of a version to hash
it where the index has no JSON API, and for one torch of download.pytorch.org that is twenty files of 800 MB. pip checks
the same hashes when it downloads.

A page of one CUDA's wheels that cannot be reached ends it at once: pip would ask again for each package, for minutes,
and then take a build of another CUDA from PyPI.

Run by the resolver's Python, which may be another than mlship's: standard library and pip-tools only.
"""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pip._internal.models.link import Link
    from piptools.repositories.pypi import PyPIRepository


def trust_links() -> None:
    """Let pip-tools take the sha256 in a link's fragment."""
    from piptools.repositories.pypi import PyPIRepository

    hashed = PyPIRepository._get_file_hash  # noqa: SLF001  pip-tools has no door for it

    def file_hash(self: "PyPIRepository", link: "Link") -> str:
        return f"sha256:{link.hash}" if link.hash_name == "sha256" and link.hash else hashed(self, link)

    PyPIRepository._get_file_hash = file_hash  # type: ignore[method-assign]  # noqa: SLF001


_CUDA_PAGE = re.compile(r"/cu[0-9]{2,4}/[a-z0-9-]+/$")


def need_pages() -> None:
    """Let pip give up where it could not connect to such a page; one that is not there (404) has no such wheels."""
    from pip._internal.index import collector

    name = "_handle_get_simple_fail"
    told = getattr(collector, name, None)
    if told is None:
        return  # another pip: it takes its time

    def fail(link: "Link", reason: str | Exception, **more: object) -> None:
        told(link, reason, **more)
        if isinstance(reason, str) and _CUDA_PAGE.search(link.url_without_fragment):
            sys.exit(f"no connection to the wheel index {link.redacted_url}: {reason}")

    setattr(collector, name, fail)


if __name__ == "__main__":
    trust_links()
    need_pages()
    from piptools.__main__ import cli

    sys.argv[0] = "pip-compile"
    cli()
