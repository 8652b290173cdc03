"""Names of images as users give them on the command line. Pure."""

import re

from mlship.errors import UsageError

# https://github.com/distribution/reference: [domain[:port]/]path[:tag], with each part as strict as the registry is.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?")


def check_reference(text: str) -> str:
    """`text`, if an image can be called so.

    Raises:
        UsageError: it cannot.
    """
    if len(text) <= 255 and _REFERENCE.fullmatch(text):
        return text
    raise UsageError(
        f"--tag {text!r} is no name of an image",
        hint="use [registry[:port]/]name[:tag], such as registry.example.com/team/model:1.2",
    )
