"""Names that a facts file must not contain."""

import getpass
import os
import platform


def private_names() -> tuple[str, ...]:
    """Names of this machine and its user, to be masked."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    node = platform.node()
    names = (node, node.partition(".")[0], user, os.environ.get("SUDO_USER", ""))
    return tuple(dict.fromkeys(name for name in names if name))
