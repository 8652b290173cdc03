"""Measured device code: per wheel, in the lock, the same bytes from the same facts."""

from pathlib import Path

import pytest
from pip._internal.network.cache import SafeFileCache

from mlship.driver.device_code import DeviceCode
from mlship.files import sha256_file
from mlship.lock.foreign import read_foreign_lock
from mlship.lock.hashes import HashedPin
from mlship.lock.measured import (
    CodeCache,
    known_code,
    locked_wheels,
    measure_wheel,
    recorded,
    with_cached_code,
    write_known_code,
)
from mlship.lock.pages import IndexFile
from mlship.lock.pins import Pin
from mlship.lock.record import LockRecord, MeasuredCode, read_record
from tests.helpers.device_code import fatbin, library
from tests.helpers.wheels import write_wheel

AMD = "linux/amd64"
ONE, OTHER = "1" * 64, "2" * 64
CODE = (MeasuredCode(cubins="8.0 9.0", ptx="9.0", compressed=True, cuda="12"),)
SO = library(fatbin([(2, 80, 0x8011, False, b"x"), (2, 90, 0x11, True, b"x"), (1, 80, 0x11, False, b"x")]))


def record(wheels: dict[str, str], code: dict[str, tuple[MeasuredCode, ...]] | None = None) -> LockRecord:
    digest = f"sha256:{'0' * 64}"
    return LockRecord({}, digest, "python:3.11-slim-bookworm", digest, "pip-tools 7", wheels=wheels, code=code or {})


def test_a_wheel_is_measured(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "own", more={"own/a.so": SO, "own/b.so.1": SO, "own/c.txt": b"no .so"})
    assert measure_wheel(wheel) == (MeasuredCode("8.0", "9.0", "8.0", compressed=True),)
    assert measure_wheel(write_wheel(tmp_path, "pure")) == ()


def test_a_wheel_on_this_disk_is_measured_for_the_lock(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "own", more={"own/a.so": SO})
    digest = sha256_file(wheel).removeprefix("sha256:")
    pins = [
        HashedPin("own", "own==1.0", (), IndexFile(wheel.name, wheel.as_uri(), None)),
        HashedPin("far", "far==1.0", (), IndexFile("far-1.0-py3-none-any.whl", "https://x/far.whl", ONE)),
        HashedPin("open", "open==1.0", (), None),
    ]
    wheels = locked_wheels(pins, CodeCache(tmp_path, AMD))
    assert wheels == {"far": ONE, "own": digest}
    assert known_code(wheels, None, CodeCache(tmp_path, AMD)) == {"own": measure_wheel(wheel)}


@pytest.mark.parametrize("same", [True, False], ids=["the locked wheel", "another file"])
def test_a_wheel_that_pip_downloaded_is_measured_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    wheel, url = write_wheel(tmp_path, "own", more={"own/a.so": SO}), "https://x/own-1.0-py3-none-any.whl"
    digest = sha256_file(wheel).removeprefix("sha256:") if same else ONE
    SafeFileCache(str(tmp_path / "pip" / "http-v2")).set_body(url, wheel.read_bytes())
    wheels = locked_wheels([HashedPin("own", "", (), IndexFile(wheel.name, url, digest))], CodeCache(tmp_path, AMD))
    assert known_code(wheels, None, CodeCache(tmp_path, AMD)) == ({"own": measure_wheel(wheel)} if same else {})


@pytest.mark.parametrize(
    ("wheel", "cached", "code"),
    [
        (ONE, False, {"torch": CODE}),  # another machine without the measurement writes the same lock
        (ONE, True, {"torch": CODE}),
        (OTHER, False, {}),
        (OTHER, True, {"torch": CODE}),
    ],
)
def test_a_lock_keeps_the_code_of_the_same_wheel(
    tmp_path: Path, wheel: str, cached: bool, code: dict[str, object]
) -> None:
    if cached:
        CodeCache(tmp_path, AMD).keep(wheel, CODE)
    before = record(wheels={"torch": ONE}, code={"torch": CODE})
    assert known_code({"torch": wheel}, before, CodeCache(tmp_path, AMD)) == code


def test_what_a_build_measured_is_added_once(tmp_path: Path) -> None:
    record(wheels={"torch": ONE, "numpy": OTHER}).write(tmp_path)
    assert write_known_code(tmp_path, "mlship.lock", CodeCache(tmp_path, AMD)) == ()
    CodeCache(tmp_path, AMD).keep(ONE, CODE)
    assert write_known_code(tmp_path, "mlship.lock", CodeCache(tmp_path, AMD)) == ("torch",)
    assert read_record(tmp_path).code == {"torch": CODE}
    assert write_known_code(tmp_path, "mlship.lock", CodeCache(tmp_path, AMD)) == ()


@pytest.mark.parametrize("text", ["", "{", '{"code": [{"cubins": "sm_80"}]}', '{"code": [{"cubins": "8.0; rm"}]}'])
def test_a_damaged_cache_is_no_measurement(tmp_path: Path, text: str) -> None:
    CodeCache(tmp_path, AMD).keep(ONE, CODE)
    assert CodeCache(tmp_path, AMD).of(ONE) == CODE
    (tmp_path / "device_code/linux-amd64" / f"{ONE}.json").write_text(text)
    assert CodeCache(tmp_path, AMD).of(ONE) == ()
    assert CodeCache(tmp_path, AMD).of("../../x") == ()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "device_code").write_text("a file")
    CodeCache(tmp_path, AMD).keep(ONE, CODE)
    assert CodeCache(tmp_path, AMD).of(ONE) == ()


def test_parts_are_recorded_in_order() -> None:
    parts = [
        DeviceCode(cubins=((9, 0),)),
        DeviceCode(cubins=((8, 0), (8, 6)), cuda=(12,)),
        DeviceCode(cubins=((9, 0),)),
    ]
    assert recorded(parts) == recorded(parts[::-1]) == (MeasuredCode("8.0 8.6", cuda="12"), MeasuredCode("9.0"))


LOCKS = {
    "requirements.txt": f"ours==1.0 --hash=sha256:{ONE} --hash=sha256:{OTHER}\nother==2.0\n",
    "uv.lock": f'[[package]]\nname = "ours"\nversion = "1.0"\nwheels = [{{ url = "x", hash = "sha256:{ONE}" }}]\n',
    "poetry.lock": f'[[package]]\nname = "ours"\nversion = "1.0"\nfiles = [{{file = "x", hash = "sha256:{ONE}"}}]\n',
    "pylock.toml": f'[[packages]]\nname = "ours"\nversion = "1.0"\nwheels = [{{hashes = {{sha256 = "{ONE}"}}}}]\n',
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_of_any_tool_is_judged_by_what_was_measured(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LOCKS[name])
    pins = read_foreign_lock(tmp_path / name, AMD).pins
    CodeCache(tmp_path, AMD).keep(ONE, CODE)
    assert {pin.name: pin.code for pin in with_cached_code(pins, CodeCache(tmp_path, AMD))}["ours"] == CODE
    assert not any(pin.code for pin in with_cached_code(pins, CodeCache(tmp_path, "linux/arm64")))


def test_wheels_of_one_release_that_differ_are_not_measured(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path, AMD)
    cache.keep(ONE, CODE)
    cache.keep(OTHER, (MeasuredCode("8.0"),))
    assert with_cached_code((Pin("ours", "1.0", (ONE, OTHER)),), cache)[0].code == ()
