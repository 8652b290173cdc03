"""How conda names a package and its version.

https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html#package-match-specifications
"""

import re

_SPEC = re.compile(r"(?:[\w./-]+::)?([\w.-]+)\s*(?:\[[^]]*\])?\s*(.*)")


def conda_spec(text: str) -> tuple[str, str]:
    """The name in `channel::name=version=build`, in lower case, and what follows it; empty if it is no such text."""
    found = _SPEC.fullmatch(text.strip())
    return (found[1].lower(), found[2]) if found else ("", "")
