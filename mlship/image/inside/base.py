"""Checks that the base image has the lock's Python, on glibc: anything else would fail much later, and less clearly.

    base.py VERSION

The base image has no bytecode of the standard library, so an import costs more here than the check.
"""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> int:
    wrong = problem(arguments[0])
    if wrong:
        sys.stderr.write(f"mlship: {wrong}\n")
    return 1 if wrong else 0


def problem(version: str) -> str | None:
    found = "{}.{}".format(*sys.version_info), libc()
    if found == (version, "glibc"):
        return None
    return f"the base image has Python {found[0]} on {found[1]}; the lock needs Python {version} on glibc"


def libc() -> str:
    """The C library's name, from confstr(3); only glibc has one."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "musl").split()[0]
    except (ValueError, OSError):
        return "musl"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
