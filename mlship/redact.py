"""Credentials in text: nothing that is printed, logged or stored may hold a password or a token.

These patterns run on every line of a build's output. Each starts at a fixed text, so that the time grows linearly with
the length of the line. If a text may be a password or a part of an address, it is hidden.
"""

import re

_ADDRESS = re.compile(
    r"""//(?!git@[\w.-]+(?::\d+)?/)(?:                  # git is everyone's user name at Git hosts
        [^\s/"<>]*@(?!sha256:)                          # //user:p@ss@host, //token@host; not an image's digest
      | [^\s/:@"<>]{1,200}:(?!\d+/)[^\s"<>]{0,200}@(?!sha256:)      # //user:pa/ss@host; not //host:8080/path@1
    )""",
    re.VERBOSE,
)
_QUERY = re.compile(
    r"""([?&][\w.-]{0,40}?(?:token|secret|password|passwd|pwd|signature|sig|credential|api[_-]?key|access[_-]?key|auth)
        [\w.-]{0,40}=)[^&\s"'<>\#]+""",
    re.VERBOSE | re.IGNORECASE,
)
_HEADER = re.compile(
    r"(authorization[\"']?\s{0,5}[:=]\s{0,5}[\"']?(?:(?:basic|bearer|token)\s{1,5})?)[^\s\"',]+", re.IGNORECASE
)


def has_credentials(text: str) -> bool:
    """Whether an address in `text` holds a user name, a password or a token."""
    return bool(_ADDRESS.search(text) or _QUERY.search(text))


def redact(text: str) -> str:
    """`text` without user names, passwords and tokens in addresses and headers."""
    return _HEADER.sub(r"\1***", _QUERY.sub(r"\1***", _ADDRESS.sub("//***@", text)))
