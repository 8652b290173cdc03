"""Lock in the base image, and check what an install step of a real build can access."""

import os
from pathlib import Path

import pytest

from mlship.engine.base import BuildEvent, BuildRequest, Engine, StepOutput
from mlship.lock import compile as compiling
from mlship.lock.compile import ResolverPlace, Upgrade
from mlship.lock.indexes import PipSettings
from mlship.lock.pins import parse_lock
from mlship.lock.resolve import resolve
from mlship.lock.secrets import build_secrets
from mlship.lock.wheelhouse import stage
from mlship.project.base import base_reference
from mlship.project.config import Config
from mlship.project.load import load_config
from mlship.resources import read_template
from tests.helpers.private import CANARY
from tests.helpers.wheels import pin_line, write_wheel

YAML = """\
name: demo
python: "{python}"
model: {{load: "a:b", sample: s.json}}
serve: {{command: [python]}}
source: [a.py]
base: {{distro: {distro}}}
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "more").mkdir(parents=True)
    (folder / "requirements.in").write_text("mlshipalpha\n-r more/other.in\n")
    (folder / "more/other.in").write_text("iniconfig\n")
    return folder


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A find-links folder in addition to this machine's pip settings."""
    folder = tmp_path / "wheels"
    write_wheel(folder, "mlshipalpha", requires=("mlshipbeta",))
    write_wheel(folder, "mlshipbeta", requires=("colorama",))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{os.environ.get('PIP_FIND_LINKS', '')} {folder}")
    return folder


def configured(repo: Path, python: str, distro: str) -> Config:
    (repo / "mlship.yaml").write_text(YAML.format(python=python, distro=distro))
    return load_config(repo)


def test_a_lock_is_the_same_on_the_host_and_in_the_image(
    repo: Path, wheels: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(repo, "3.11", "bookworm")
    if not (place := compiling.choose_place(config)).local:
        pytest.skip(f"nothing to compare with: {place.reason}")
    resolve(repo, config, lambda: engine, Upgrade(), tmp_path / "cache")
    here = (repo / "requirements.txt").read_bytes()
    for name in ("requirements.txt", "mlship.lock"):
        (repo / name).unlink()
    monkeypatch.setattr("mlship.lock.resolve.choose_place", lambda _: ResolverPlace(local=False, reason="test"))
    resolved = resolve(repo, config, lambda: engine, Upgrade(), tmp_path / "cache")
    assert (repo / "requirements.txt").read_bytes() == here
    assert [pin.name for pin in resolved.pins] == ["colorama", "iniconfig", "mlshipalpha", "mlshipbeta"]
    assert str(tmp_path).encode() not in here


def test_another_python_in_its_own_image(repo: Path, wheels: Path, engine: Engine, tmp_path: Path) -> None:
    config = configured(repo, "3.13", "trixie")
    (repo / "requirements.in").write_text(
        "mlshipalpha ; python_version == '3.13'\niniconfig ; python_version < '3.13'\n"
    )
    resolved = resolve(repo, config, lambda: engine, Upgrade(), tmp_path / "cache")
    assert not resolved.place.local
    assert [pin.name for pin in resolved.pins] == ["colorama", "mlshipalpha", "mlshipbeta"]
    text = (repo / "requirements.txt").read_text()
    assert "with Python 3.13" in text
    assert pin_line(wheels / "mlshipbeta-1.0-py3-none-any.whl").split("--hash=")[1].strip() in text


def installing(base: str, lock: str) -> str:
    """A Dockerfile that installs a lock like mlship's.

    uv itself comes from elsewhere: Debian's pip 25.1 cannot do TLS with an index that has an address and no name.
    """
    mount = f"--mount=type=bind,from=wheelhouse,source=/all,target=/wheelhouse {read_template('secrets.j2')}"
    settings = f"COPY <<'SETTINGS' /settings.sh\n{read_template('settings.sh')}SETTINGS\n"
    return (
        f"FROM scratch AS wheelhouse\nFROM {base} AS uv\n{settings}"
        f"COPY <<'PINS' /uv.txt\n{read_template('uv.txt')}PINS\n"
        f"RUN {mount}    . /settings.sh && unset PIP_EXTRA_INDEX_URL && "
        "python -m pip install -q --no-deps --require-hashes --target /opt/uv -r /uv.txt\n"
        f"COPY <<'PINS' /requirements.txt\n{lock}PINS\n"
        f"RUN {mount}    . /settings.sh && /opt/uv/bin/uv pip install --no-config --no-cache --target /out --no-deps "
        "--require-hashes -r /requirements.txt && env | grep -c ^PIP_\n"
        "FROM scratch\nCOPY --from=uv /out /\n"
    )


def test_uv_installs_from_private_indexes_with_pips_settings(
    private: PipSettings, engine: Engine, repo: Path, tmp_path: Path
) -> None:
    wheels = [next((tmp_path / folder).glob("**/*.whl")) for folder in ("mlshipone", "mlshiptwo", "local")]
    lock = "".join(pin_line(wheel) for wheel in wheels)
    pins = (*parse_lock(lock, "requirements.txt"), *parse_lock(read_template("uv.txt"), "uv.txt"))
    (tmp_path / "empty").mkdir()
    said: list[BuildEvent] = []
    request = BuildRequest(
        dockerfile=installing(base_reference(configured(repo, "3.13", "trixie")), lock),
        ignore="",
        context=tmp_path / "empty",
        platform=engine.info().platform,
        export=tmp_path / "out",
        secrets=build_secrets(private),
        contexts={"wheelhouse": stage(private, {"all": pins}, tmp_path / "cache")},
    )
    engine.build(request, said.append)
    installed = {path.name for path in (tmp_path / "out").glob("mlship*.py")}
    assert installed == {"mlshipone.py", "mlshiptwo.py", "mlshipthree.py"}
    assert CANARY not in "".join(event.text for event in said if isinstance(event, StepOutput))
