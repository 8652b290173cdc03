"""Builds the request that the smoke test and the trace send: bytes from its description in the image's label.

A text that runs inside the tested image, given to `mlship.smoke.inside.client`, and in the build, beside `trace.py`.
Standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import json
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JSON, FORM, BYTES = "application/json", "application/x-www-form-urlencoded", "application/octet-stream"
# Python's own table, so that a type does not depend on the image's /etc/mime.types; and what Python 3.8 lacks.
_TYPES = mimetypes.MimeTypes(filenames=())
_MORE_TYPES = {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".json": JSON,
}
NOT_A_FILE = b"mlship: not a file of this kind"


class HttpRequest(NamedTuple):
    """A request as it is sent; `body` is None without one."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    @property
    def is_json(self) -> bool:
        return self.body is not None and dict(self.headers).get("Content-Type") == JSON


def build(request: Mapping[str, object], env: Mapping[str, str]) -> HttpRequest:
    """The request of a description.

    Args:
        env: values for `${NAME}`.

    Raises:
        OSError: one of its files cannot be read.
    """
    files = {str(field): str(path) for field, path in _table(request, "files").items()}
    parts = [(field, Path(path).name, Path(path).read_bytes()) for field, path in files.items()]
    body = Path(str(request["body"])).read_bytes() if request.get("body") else None
    return _built(request, env, parts, body)


def malformed(request: Mapping[str, object], env: Mapping[str, str]) -> Iterator[tuple[str, HttpRequest]]:
    """Requests that a server for this one should reject, each with its kind."""
    right = build(request, env)
    if right.is_json:
        yield from ((kind, right._replace(body=text)) for kind, text in malformed_json(right.body or b""))
        return
    files = _table(request, "files")
    if files:
        parts = [(str(field), Path(str(path)).name, NOT_A_FILE) for field, path in files.items()]
        yield "garbage", _built(request, env, parts, None)
    if request.get("body"):
        if not content_type(str(request["body"])).startswith("text/"):
            yield "garbage", right._replace(body=NOT_A_FILE)
        yield "nothing", right._replace(body=b"")
    elif right.body is not None:
        yield "nothing", _built({**request, "form": {}}, env, [], None, empty=True)


def malformed_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "half", b'{"mlship": [1, 2'
    if isinstance(json.loads(body), dict):
        yield "kind", b'["mlship"]'
        yield "empty", b"{}"
    else:
        yield "kind", b'{"mlship": "malformed"}'


def _built(
    request: Mapping[str, object],
    env: Mapping[str, str],
    parts: list[tuple[str, str, bytes]],
    body: bytes | None,
    *,
    empty: bool = False,
) -> HttpRequest:
    fields = _filled(request, "form", env)
    kind = content_type(str(request["body"])) if request.get("body") else None
    if parts:
        body, kind = _multipart(fields, parts)
    elif fields or empty:
        body, kind = urlencode(fields).encode(), FORM
    headers = _filled(request, "headers", env)
    if kind and "content-type" not in map(str.lower, headers):
        headers["Content-Type"] = kind
    query = urlencode(_filled(request, "query", env))
    target = quote(str(request["path"]), safe="/%:~") + (f"?{query}" if query else "")
    return HttpRequest(str(request["method"]), target, tuple(headers.items()), body)


def content_type(path: str) -> str:
    """By the name of a file."""
    suffix = Path(path).suffix.lower()
    return _MORE_TYPES.get(suffix) or _TYPES.guess_type(f"a{suffix}")[0] or BYTES


def _table(request: Mapping[str, object], key: str) -> Mapping[object, object]:
    found = request.get(key)
    return found if isinstance(found, dict) else {}


def _filled(request: Mapping[str, object], key: str, env: Mapping[str, str]) -> dict[str, str]:
    """A table of texts, with values for `${NAME}`."""
    return {
        str(name): re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda found: env.get(found[1], found[0]), str(text))
        for name, text in _table(request, key).items()
    }


def _multipart(fields: Mapping[str, str], files: list[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    """A multipart/form-data body (RFC 7578) and its content type; the same parts give the same bytes."""
    parts = [(_disposition(field), text.encode()) for field, text in fields.items()]
    parts += [
        (f'{_disposition(field)}; filename="{_quoted(name)}"\r\nContent-Type: {content_type(name)}', content)
        for field, name, content in files
    ]
    number = 0
    while any(_boundary(number).encode() in content for _, content in parts):
        number += 1
    mark = _boundary(number)
    text = b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (mark.encode(), head.encode(), content) for head, content in parts)
    return text + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def _boundary(number: int) -> str:
    return f"mlship-boundary-{number}"


def _disposition(field: str) -> str:
    return f'Content-Disposition: form-data; name="{_quoted(field)}"'


def _quoted(text: str) -> str:
    """As browsers do (the HTML standard's multipart/form-data encoding)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
