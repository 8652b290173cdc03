"""Device code is read as NVIDIA's cuobjdump lists it; a layout that is not known is an error, never "no code"."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.driver import device_code
from mlship.driver.device_code import DeviceCode, read_device_code
from tests.helpers.device_code import fatbin, library

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([1, 2]),
        st.sampled_from([50, 61, 75, 80, 86, 90, 100, 103, 120, 121]),
        st.sampled_from([0x11, 0x2011, 0x8011]),
        st.booleans(),
        st.binary(max_size=40),
    ),
    max_size=6,
)


@given(st.lists(ENTRIES, max_size=3))
def test_everything_written_is_read(fatbins: list[list[tuple[int, int, int, bool, bytes]]]) -> None:
    found = read_device_code(io.BytesIO(library(b"".join(map(fatbin, fatbins)))))
    entries = [entry for each in fatbins for entry in each]
    cubins = {(divmod(number, 10), specific) for kind, number, _, specific, _ in entries if kind == 2}
    assert found.cubins == tuple(sorted(each for each, specific in cubins if not specific))
    assert found.specific == tuple(sorted({divmod(number, 10) for _, number, _, specific, _ in entries if specific}))
    ptx = {divmod(number, 10) for kind, number, _, specific, _ in entries if kind == 1 and not specific}
    assert found.ptx == tuple(sorted(ptx))
    assert found.compressed is any(flags == 0x8011 for _, _, flags, _, _ in entries)


@given(ENTRIES.filter(bool), st.integers(1, 60))
def test_a_fatbin_that_is_cut_short_is_an_error(entries: list[tuple[int, int, int, bool, bytes]], cut: int) -> None:
    with pytest.raises(ValueError, match="byte"):
        read_device_code(io.BytesIO(library(fatbin(entries)[:-cut])))


@given(st.binary(max_size=300))
def test_other_bytes_in_the_section_are_an_error_or_padding(noise: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert read_device_code(io.BytesIO(library(noise))) == DeviceCode()


@given(st.binary(max_size=400))
def test_what_is_no_library_has_no_code(content: bytes) -> None:
    assert not read_device_code(io.BytesIO(content))
    assert not read_device_code(io.BytesIO(b"\x7fELF\x02\x01" + content[:40]))


def test_installed_distributions_are_read(tmp_path: Path) -> None:
    code = fatbin([(2, 70, 0x11, False, b"x"), (2, 90, 0x11, True, b"x"), (1, 80, 0x11, False, b"x")])
    for name, files in {
        "gpu_lib": {"gpu_lib/a.so": library(code), "gpu_lib/b.so.1": library(code), "gpu_lib/c.so": b"\x7fELF no"},
        "odd": {"odd.so": library(b"no fatbin here, but something")},
        "plain": {"plain/m.py": b"x = 1"},
    }.items():
        record = ""
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
            record += f"{path},,\n"
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{record}gpu_lib/gone.so,,\n" if name == "gpu_lib" else record)
    (tmp_path / "~roken-1.0.dist-info").mkdir()
    (tmp_path / "bytes-1.0.dist-info").mkdir()
    (tmp_path / "bytes-1.0.dist-info/RECORD").write_bytes(b"\xff\xfe.so,,\n")
    program = f"{Path(device_code.__file__).read_text()}\nimport json\nprint(json.dumps(installed_code()))"
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    part = {"cubins": [[7, 0]], "specific": [[9, 0]], "ptx": [[8, 0]], "compressed": False, "cuda": []}
    assert json.loads(done.stdout) == {
        "packages": [{"name": "gpu_lib", "version": "1.0", "loaded": False, "code": [part]}],
        "unread": 3,
    }


def test_a_library_without_fatbins() -> None:
    assert not read_device_code(io.BytesIO(library(fatbin([(2, 80, 0x11, False, b"x")]), b".text")))
