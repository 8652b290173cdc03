import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.errors import TransientError
from mlship.files import sha256_file
from mlship.lock.indexes import PipSettings
from mlship.lock.localfiles import local_files
from mlship.lock.pins import parse_lock
from mlship.lock.wheelhouse import Hashes, stage, write_stubs
from tests.helpers.wheels import pin_line, write_index, write_wheel


@pytest.fixture
def settings(tmp_path: Path) -> PipSettings:
    """A find-links folder and an index whose pages link relatively, as pip would use them."""
    write_wheel(tmp_path / "wheels", "alpha")
    write_wheel(tmp_path / "wheels", "other")
    (tmp_path / "wheels/readme.txt").write_text("is not a wheel")
    (tmp_path / "wheels/broken.whl").write_text("no name of a wheel")
    files = [write_wheel(tmp_path / "index/files", "beta", version) for version in ("1.0", "2.0")]
    simple = write_index(tmp_path / "index/simple", files)
    return PipSettings(find_links=(str(tmp_path / "wheels"), "https://host/links"), extra_index_urls=(simple.as_uri(),))


def test_finds_files_of_folders_and_of_indexes(settings: PipSettings) -> None:
    names = ["alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl", "beta-2.0-py3-none-any.whl"]
    assert list(local_files(settings)) == [*names, "other-1.0-py3-none-any.whl"]
    assert list(local_files(settings, frozenset({"beta"}))) == names[1:]


def test_an_index_is_not_asked_where_there_is_to_be_none(settings: PipSettings) -> None:
    assert local_files(replace(settings, no_index=True), frozenset({"beta"})) == {}


def test_stages_exactly_what_the_lock_names(settings: PipSettings, tmp_path: Path) -> None:
    alpha, beta = tmp_path / "wheels/alpha-1.0-py3-none-any.whl", tmp_path / "index/files/beta-2.0-py3-none-any.whl"
    pins = parse_lock(pin_line(alpha) + pin_line(beta), "r")
    folder = stage(settings, {"light": pins}, tmp_path / "cache")
    assert sorted(path.name for path in (folder / "light").iterdir()) == [alpha.name, beta.name]
    assert (folder / "light" / alpha.name).samefile(alpha)
    assert stage(settings, {"light": pins}, tmp_path / "cache") == folder


def test_a_file_with_another_hash_is_not_the_one_that_is_meant(settings: PipSettings, tmp_path: Path) -> None:
    pins = parse_lock(f"alpha==1.0 --hash=sha256:{'0' * 64}", "r")
    folder = stage(settings, {"light": pins}, tmp_path / "cache")
    assert list((folder / "light").iterdir()) == []


def test_a_changed_file_is_hashed_again(settings: PipSettings, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels/alpha-1.0-py3-none-any.whl"
    pins = parse_lock(pin_line(wheel), "r")
    before = stage(settings, {"light": pins}, tmp_path / "cache")
    wheel.unlink()
    wheel.write_bytes(b"something else")
    after = stage(settings, {"light": pins}, tmp_path / "cache")
    assert after != before
    assert list((after / "light").iterdir()) == []


def test_a_file_changed_in_place_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    file.write_bytes(b"one")
    hashes = Hashes(tmp_path / "hashes.json")
    before = hashes.of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(0, 0))
    assert hashes.of(file) == sha256_file(file) != before


def test_of_two_folders_with_the_same_wheel_the_first_wins(tmp_path: Path) -> None:
    first, second = (write_wheel(tmp_path / name, "alpha") for name in ("z", "a"))
    found = local_files(PipSettings(find_links=(str(first.parent), str(second.parent))))
    assert found[first.name].path == first


def test_hashes_are_kept_and_a_broken_store_is_forgotten(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "alpha")
    hashes = Hashes(tmp_path / "hashes.json")
    assert hashes.of(wheel) == sha256_file(wheel)
    hashes.save()
    assert str(wheel) in (tmp_path / "hashes.json").read_text()
    (tmp_path / "hashes.json").write_text("{")
    assert Hashes(tmp_path / "hashes.json").of(wheel) == sha256_file(wheel)


def test_a_cache_that_cannot_be_written(settings: PipSettings, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(TransientError, match="cannot collect local wheels"):
        stage(settings, {}, tmp_path / "cache")


def test_stubs_are_small_and_the_same_each_time(settings: PipSettings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_stubs(local_files(settings), tmp_path / name)
    wheel = tmp_path / "wheels/alpha-1.0-py3-none-any.whl"
    stub = tmp_path / "one" / wheel.name
    assert stub.stat().st_size < 1000 < wheel.stat().st_size
    assert stub.read_bytes() == (tmp_path / "two" / wheel.name).read_bytes()


def test_a_broken_wheel_has_no_stub(tmp_path: Path) -> None:
    write_wheel(tmp_path / "w", "alpha").write_text("no zip")
    (tmp_path / "out").mkdir()
    write_stubs(local_files(PipSettings(find_links=(str(tmp_path / "w"),))), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
