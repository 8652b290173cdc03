"""pip-compile, with one difference: a hash that a page of links gives is taken, as pip itself takes it.

pip-tools downloads every file of a version to hash it where the index has no JSON API: for one torch of
download.pytorch.org that is twenty files of 800 MB. pip checks the same hashes when it downloads.

Run by the resolver's Python, which may be another than mlship's: standard library and pip-tools only.
"""

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


if __name__ == "__main__":
    trust_links()
    from piptools.__main__ import cli

    sys.argv[0] = "pip-compile"
    cli()
