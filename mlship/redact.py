"""Credentials in addresses: nothing that is printed, logged or stored may hold a password or a token."""

import re

_CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")


def has_credentials(text: str) -> bool:
    """Whether an address in `text` holds a user name, a password or a token."""
    return bool(_CREDENTIALS.search(text))


def redact(text: str) -> str:
    """`text` without user names, passwords and tokens in addresses."""
    return _CREDENTIALS.sub(r"\1***@", text)
