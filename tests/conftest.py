"""Switches, guards and fixtures for every test."""

import atexit
import difflib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from mlship import process
from tests.helpers import sampling
from tests.helpers.memory import use_memory
from tests.helpers.patience import limit
from tests.helpers.required import is_required

if TYPE_CHECKING:
    from mlship.engine.base import Engine

ROOT = Path(__file__).parent
LEFT_OUT = pytest.StashKey[int]()
NOWHERE = f"unix://{ROOT}/no-engine-in-this-test.sock"
Golden = Callable[[str, str], None]
Address = tuple[str, int] | str | bytes


class Worker(Protocol):
    """A worker process of pytest-xdist, as its hooks receive it."""

    config: pytest.Config


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-docker", action="store_true", help="run the tests that need a Docker Engine")
    parser.addoption("--run-gpu", action="store_true", help="run the tests that need a real NVIDIA GPU")
    parser.addoption("--update-golden", action="store_true", help="write the files under tests/golden again")
    parser.addoption("--whole", action="store_true", help="run every case of the banks, and more examples a property")


@pytest.hookimpl(tryfirst=True)  # before pytest-timeout reads its option
def pytest_configure(config: pytest.Config) -> None:
    # PYTHONDONTWRITEBYTECODE would make every worker compile all test modules in every run.
    sys.dont_write_bytecode = False
    gc.set_threshold(100_000, 50, 50)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs; tests send it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup, which mlship respects; tests send it
    if config.getoption("timeout") and not hasattr(config, "workerinput"):  # workers inherit the scaled limit
        config.option.timeout = limit(config.option.timeout)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):  # `mlship init` reads the active environment
        os.environ.pop(name, None)
    if not config.getoption("--run-docker"):  # an engine may not see what is in this machine's memory
        use_memory()
    config.stash[LEFT_OUT] = 0
    sampling.choose_profile(whole=is_whole(config))


def is_whole(config: pytest.Config) -> bool:
    """Whether every case runs: with `--whole`, or if the command names single tests."""
    return bool(config.getoption("--whole")) or all(".py::" in argument for argument in config.args)


def pytest_report_header(config: pytest.Config) -> str:
    if is_whole(config):
        return f"sample: none, {sampling.EXAMPLES} examples of each property"
    return (
        f"sample: one case of each kind or {sampling.SAMPLED_CASES} cases of a test, no slow tests, "
        f"{sampling.SAMPLED_EXAMPLES} examples of each property; --whole runs everything"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not is_whole(config):
        kept, left_out = sampling.split(items)
        if config.getoption("--update-golden"):  # every golden file is written again
            kept = [item for item in items if item in kept or "golden" in getattr(item, "fixturenames", ())]
            left_out = [item for item in left_out if item not in kept]
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)
    for item in items:
        if (ROOT / "docker") in item.path.parents:
            item.add_marker(pytest.mark.docker)
        if (ROOT / "gpu") in item.path.parents:
            item.add_marker(pytest.mark.gpu)


def pytest_collection_finish() -> None:
    """Do once what would cost a fifth of the time if it were done for each test."""
    gc.freeze()  # modules and test items live until the end
    atexit.register(gc.freeze)  # nothing needs the collections of a process that ends
    if (testing := sys.modules.get("typer.testing")) is not None:  # CliRunner builds all commands in each invoke
        vars(testing)["_get_command"] = cache(vars(testing)["_get_command"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if needs_gpu(item) and not item.config.getoption("--run-gpu"):
        pytest.skip("needs a real NVIDIA GPU: add --run-gpu where there is one")
    if needs_docker(item) and not item.config.getoption("--run-docker"):
        pytest.skip("needs a Docker Engine: add --run-docker")


def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.collect()  # for what fails in a destructor
    gc.freeze()  # two plugins would collect again
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)  # only in a worker of xdist
    if output is not None:
        output["left_out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Worker) -> None:
    output: dict[str, int] = getattr(node, "workeroutput", {})  # empty if the worker crashed
    node.config.stash[LEFT_OUT] = output.get("left_out", 0)  # every worker leaves out the same


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[LEFT_OUT]:
        terminalreporter.write_line(f"sampled: {config.stash[LEFT_OUT]} tests left out; --whole runs them")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test if MLSHIP_REQUIRE names its layer (docker or gpu)."""
    report = yield
    layer = "gpu" if needs_gpu(item) else "docker" if needs_docker(item) else ""
    if item.get_closest_marker("may_skip"):
        return report
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
    """Without the marker `docker`, a test and its child processes reach neither an engine nor the network."""
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
        if isinstance(address, tuple):
            local = address[0].startswith("127.") or address[0] in {"::1", "localhost"}
        else:
            local = is_fake(Path(str(address)), request) or not Path(str(address)).exists()
        if not local:
            pytest.fail(f"this test connects to {address!r}")
        connect(self, address)

    monkeypatch.setattr(process, "_start", guarded_start)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)


def process_path(program: str, options: process.Options) -> Path | None:
    """Path of a program, as PATH resolves it."""
    folders = {**os.environ, **(options.env or {})}.get("PATH", "").split(os.pathsep)
    return next((path for folder in folders if (path := Path(folder, program)).exists()), None)


def is_fake(program: Path, request: pytest.FixtureRequest) -> bool:
    """Whether a test wrote this program, or made this socket."""
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
def engine() -> "Engine":
    """The real engine."""
    from mlship.engine import connect

    found = connect()
    found.info()
    return found


@pytest.fixture(scope="session")
def tiny_base() -> Iterator[str]:
    """A small image with a shell and coreutils, for user 1001, made without a registry."""
    from tests.helpers.tiny import tiny_image

    with tiny_image() as reference:
        yield reference
