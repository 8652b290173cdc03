"""Switches, guards and fixtures for every test."""

import difflib
import os
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mlship import process
from tests.helpers.required import is_required

if TYPE_CHECKING:
    from mlship.engine.docker import DockerEngine

ROOT = Path(__file__).parent
settings.register_profile("mlship", deadline=None)  # how long a machine takes says nothing about what is right
settings.load_profile("mlship")
NOWHERE = "unix:///nonexistent/no-engine-in-this-test.sock"
Golden = Callable[[str, str], None]
Address = tuple[str, int] | str | bytes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-docker", action="store_true", help="run the tests that need a Docker Engine")
    parser.addoption("--run-gpu", action="store_true", help="run the tests that need a real NVIDIA GPU")
    parser.addoption("--update-golden", action="store_true", help="write the files under tests/golden anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (ROOT / "docker") in item.path.parents:
            item.add_marker(pytest.mark.docker)
        if (ROOT / "gpu") in item.path.parents:
            item.add_marker(pytest.mark.gpu)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if needs_gpu(item) and not item.config.getoption("--run-gpu"):
        pytest.skip("needs a real NVIDIA GPU: add --run-gpu where there is one")
    if needs_docker(item) and not item.config.getoption("--run-docker"):
        pytest.skip("needs a Docker Engine: add --run-docker")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a layer is required (MLSHIP_REQUIRE has docker, or gpu), a test of it that skips has failed."""
    report = yield
    layer = "gpu" if needs_gpu(item) else "docker" if needs_docker(item) else ""
    if report.skipped and layer and is_required(layer) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but MLSHIP_REQUIRE={os.environ['MLSHIP_REQUIRE']}: {report.longrepr}"
    return report


def needs_gpu(item: pytest.Item) -> bool:
    return item.get_closest_marker("gpu") is not None


def needs_docker(item: pytest.Item) -> bool:
    return item.get_closest_marker("docker") is not None


@pytest.fixture(autouse=True)
def _no_accidents(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that does not say `docker` reaches neither an engine nor the network, nor do its child processes."""
    if needs_docker(request.node):
        return
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    start, connect = process._start, socket.socket.connect

    def guarded_start(argv: list[str], options: process.Options) -> object:
        program = Path(argv[0]).name
        found = process_path(program, options)
        if program == "docker" and found is not None and not is_fake(found, request):
            pytest.fail(f"this test runs the real docker: {argv}")
        return start(argv, options)

    def guarded_connect(self: socket.socket, address: Address) -> None:
        local = isinstance(address, tuple) and (address[0].startswith("127.") or address[0] in {"::1", "localhost"})
        if not local:
            pytest.fail(f"this test connects to {address!r}")
        connect(self, address)

    monkeypatch.setattr(process, "_start", guarded_start)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)


def process_path(program: str, options: process.Options) -> Path | None:
    """Where a program would be found."""
    folders = {**os.environ, **(options.env or {})}.get("PATH", "").split(os.pathsep)
    return next((path for folder in folders if (path := Path(folder, program)).exists()), None)


def is_fake(program: Path, request: pytest.FixtureRequest) -> bool:
    """It is a script that a test wrote."""
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    return factory.getbasetemp() in program.parents


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with tests/golden/<name>; --update-golden writes it instead."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        if not path.exists():
            pytest.fail(f"there is no {path}: run pytest --update-golden, and read what it writes")
        wanted = path.read_text(encoding="utf-8")
        if wanted != text:
            lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), str(path), "now", lineterm="")
            pytest.fail("\n".join(lines), pytrace=False)

    return compare


@pytest.fixture(scope="session")
def engine() -> "DockerEngine":
    """The real engine."""
    from mlship.engine.docker import DockerEngine

    found = DockerEngine()
    found.info()
    return found


@pytest.fixture(scope="session")
def tiny_base() -> Iterator[str]:
    """A small image with a shell and coreutils, its user 1001, made without any registry."""
    from tests.helpers.tiny import tiny_image

    with tiny_image() as reference:
        yield reference
