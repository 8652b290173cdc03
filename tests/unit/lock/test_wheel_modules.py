"""The locked wheel is asked for the modules that its requirement was written for."""

import http.server
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.lock.doubts import written_by_another
from mlship.lock.hashes import HashedPin
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.pages import IndexFile
from mlship.lock.pins import Pin
from mlship.lock.wheel_modules import _absent, absent_modules, has_module, marked_modules, wheel_files
from mlship.project.load import parse_config
from tests.helpers.lock_configs import YAML
from tests.helpers.wheels import write_wheel

FILES = (
    InputFile(
        "requirements.in", "attr  # import attr\nOpenCV_Python>=4  # import cv2, cv2.dnn\nnumpy\n# x  # import y\n"
    ),
)
PINS = [
    HashedPin("attr", "attr==0.3.2 \\\n", (), IndexFile("attr-0.3.2-py3-none-any.whl", "https://x/a.whl", None)),
    HashedPin("opencv-python", "opencv-python==5", (), IndexFile("o-5-py3-none-any.whl", "https://x/o.whl", None)),
    HashedPin("numpy", "numpy==2", (), None),
]


def test_marks_name_modules() -> None:
    assert list(marked_modules(FILES)) == [("attr", ("attr",)), ("opencv-python", ("cv2", "cv2.dnn"))]


def test_a_wheel_without_the_module_is_said_with_what_it_has() -> None:
    names = {
        "a": ("other/__init__.py", "attr-0.3.2.dist-info/METADATA"),
        "o": ("cv2/cv2.abi3.so", "cv2/dnn/__init__.py"),
    }
    found = absent_modules(FILES, PINS, lambda file: names[file.filename[0]])
    assert found == ("attr==0.3.2 has no module attr, for which it is required; it has other",)


def test_what_cannot_be_seen_is_unknown() -> None:
    assert absent_modules(FILES, PINS, lambda _: None) == (
        "unknown whether the modules that you import are in attr, opencv-python: no wheel to look into",
    )
    source = [HashedPin("attr", "attr==1", (), None)]
    assert "in attr: no wheel" in absent_modules(FILES, source, lambda _: ())[0]


@pytest.mark.parametrize(
    ("name", "module", "there"),
    [
        ("sklearn/__init__.py", "sklearn", True),
        ("google/cloud/storage/client.py", "google.cloud.storage", True),
        ("pynvml.py", "pynvml", True),
        ("_fast.cpython-311-x86_64-linux-gnu.so", "_fast", True),
        ("x-1.0.data/purelib/deep/a.py", "deep", True),
        ("sklearn_extra/__init__.py", "sklearn", False),
        ("lib/sklearn/__init__.py", "sklearn", False),
        ("attr.txt", "attr", False),
        ("x-1.0.data/scripts/tool.py", "tool", False),
    ],
)
def test_has_module(name: str, module: str, there: bool) -> None:
    assert has_module([name], module) is there


@pytest.fixture
def ranges(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A server of one large wheel that answers range requests, and the bytes that it sent."""
    sent: list[int] = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("big/data.bin", b"0" * 3_000_000)
        for number in range(1500):  # the names need more than the first part of the end that is read
            archive.writestr(f"big/module_{number}.py", "")
    data = buffer.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()

        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
            sent.append(len(part))
            self.send_response(206 if self.path.startswith("/ranges/") else 200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


def test_only_the_end_of_a_wheel_is_read(ranges: tuple[str, list[int]]) -> None:
    address, sent = ranges
    file = IndexFile("big-1-py3-none-any.whl", f"{address}/ranges/big.whl", None)
    names = wheel_files(PipSettings(), file) or ()
    assert names[:2] == ("big/data.bin", "big/module_0.py")
    assert len(names) == 1501
    assert len(sent) == 2
    assert sum(sent) < 1_500_000


def test_a_server_without_ranges_and_a_source_archive_are_unknown(ranges: tuple[str, list[int]]) -> None:
    file = IndexFile("big-1-py3-none-any.whl", f"{ranges[0]}/whole/big.whl", None)
    assert wheel_files(PipSettings(), file) is None
    assert wheel_files(PipSettings(), IndexFile("big-1.tar.gz", "https://x/big-1.tar.gz", None)) is None
    assert wheel_files(PipSettings(), IndexFile("a-1-py3-none-any.whl", "http://127.0.0.1:9/a.whl", None)) is None


def test_a_local_wheel_is_read(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, "tiny")
    file = IndexFile(path.name, path.absolute().as_uri(), None)
    assert has_module(wheel_files(PipSettings(), file) or (), "tiny")


def test_another_scikit_learn_than_the_one_that_wrote_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04}(\x8c\x10_sklearn_version\x94\x8c\x060.20.3\x94u.")
    allowed = f"{{path: m.pkl, sha256: {'a' * 64}, reason: written by our own training}}"
    with_pickle = parse_config(YAML.replace("s.json}", f"s.json, allow_pickle: [{allowed}]}}"))
    (said,) = written_by_another(tmp_path, with_pickle, [Pin("scikit-learn", "1.9.1", ())])
    assert said.startswith("m.pkl was written by scikit-learn 0.20.3, and 1.9.1 is locked")
    assert said.endswith(": write the file again with 1.9.1")  # 0.20.3 has no wheel for any supported Python
    assert not list(written_by_another(tmp_path, with_pickle, [Pin("scikit-learn", "0.20.3", ())]))
    assert not list(written_by_another(tmp_path, with_pickle, [Pin("numpy", "2.0", ())]))


def test_the_first_modules_of_a_wheel_are_named() -> None:
    pin = HashedPin("x", "x==1 --hash=sha256:0", ("sha256:0",), None)
    names = tuple(f"m{number}/__init__.py" for number in range(7))
    (text,) = _absent(pin, ("other",), (*names, "x-1.dist-info/METADATA"))
    assert text == "x==1 has no module other, for which it is required; it has m0, m1, m2, m3, m4"
