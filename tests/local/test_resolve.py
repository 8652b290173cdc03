"""Resolve from a folder of tiny wheels, without a network and with an engine that only returns digests."""

from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.files import sha256_file
from mlship.lock.check import check_lock
from mlship.lock.compile import Upgrade, choose_place
from tests.helpers.lock_configs import config as config_of
from tests.helpers.lock_runs import HERE, NEW, OLD, DigestEngine, config, make_repo, run, versions
from tests.helpers.wheels import write_wheel


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_repo(tmp_path, monkeypatch)


local = pytest.mark.skipif(
    not choose_place(config_of(f'python: "{HERE}"\nbase: {{distro: trixie}}\n')).local,
    reason="this machine is not like any image, so nothing is resolved on it",
)


@local
def test_resolves_locally_and_keeps_pins_unless_upgraded(repo: Path) -> None:
    first = run(repo, DigestEngine())
    assert versions(first) == {"alpha": "1.0", "beta": "1.0"}
    text = (repo / "requirements.txt").read_text()
    assert str(repo.parent) not in text
    assert "mlship lock" in text
    assert check_lock(repo, config()).pins == first.pins
    write_wheel(repo.parent / "wheels", "beta", "2.0")
    write_wheel(repo.parent / "wheels", "alpha", "2.0", requires=("beta",))
    assert versions(run(repo, DigestEngine())) == {"alpha": "1.0", "beta": "1.0"}
    assert (repo / "requirements.txt").read_text() == text
    assert versions(run(repo, DigestEngine(), Upgrade(packages=("beta",)))) == {"alpha": "1.0", "beta": "2.0"}
    upgraded = run(repo, DigestEngine(), Upgrade(all=True))
    assert versions(upgraded) == {"alpha": "2.0", "beta": "2.0"}
    assert {pin.version for pin in upgraded.previous} == {"1.0", "2.0"}


@local
def test_a_version_required_letter_by_letter_is_locked(repo: Path) -> None:
    (repo / "requirements.in").write_text("beta===1.0\n")
    assert versions(run(repo, DigestEngine())) == {"beta": "1.0"}
    assert "beta==1.0 \\" in (repo / "requirements.txt").read_text()


@local
def test_the_base_image_is_pinned_too(repo: Path) -> None:
    run(repo, DigestEngine(tag=OLD))
    assert run(repo, DigestEngine(tag=NEW)).record.digest == OLD
    assert run(repo, DigestEngine(tag=NEW, dropped=True)).record.digest == NEW
    run(repo, DigestEngine(tag=OLD), Upgrade(all=True))
    assert run(repo, DigestEngine(tag=NEW), Upgrade(all=True)).record.digest == NEW


@local
def test_pips_constraints_apply_and_their_path_is_not_recorded(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(repo.parent / "wheels", "beta", "2.0")
    (repo.parent / "limits.txt").write_text("beta<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(repo.parent / "limits.txt"))
    assert versions(run(repo, DigestEngine())) == {"alpha": "1.0", "beta": "1.0"}
    text = (repo / "requirements.txt").read_text()
    assert "-c pip.conf" in text
    assert "/" not in text


@local
def test_a_failed_resolve_changes_nothing(repo: Path) -> None:
    run(repo, DigestEngine())
    before = {path.name: path.read_bytes() for path in repo.iterdir()}
    (repo / "requirements.in").write_text("alpha\nbeta>7\n")
    with pytest.raises(UsageError, match="no version matches `beta>7`"):
        run(repo, DigestEngine())
    (repo / "requirements.in").write_text("alpha\n")
    assert {path.name: path.read_bytes() for path in repo.iterdir()} == before


@local
def test_a_wheel_of_the_repository_is_not_that_of_an_index(repo: Path) -> None:
    own = write_wheel(repo / "wheels", "alpha", "1.0", requires=("gamma",))
    write_wheel(repo.parent / "wheels", "gamma", "1.0")
    (repo / "requirements.in").write_text(f"./wheels/{own.name}\n")
    found = run(repo, DigestEngine())
    assert versions(found) == {"alpha": "1.0", "gamma": "1.0"}
    assert next(pin.hashes for pin in found.pins if pin.name == "alpha") == (sha256_file(own),)
    assert "alpha==1.0 " in (repo / "requirements.txt").read_text()
    assert versions(run(repo, DigestEngine())) == {"alpha": "1.0", "gamma": "1.0"}
