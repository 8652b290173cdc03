"""What the scripts about the generated server conclude from their measurements."""

import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from _bench_serving import cpu_seconds, median_ratio

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    sys.dont_write_bytecode = True
    loader = SourceFileLoader("scripts_soak_serving", str(SCRIPTS / "soak-serving"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_ratios_are_of_pairs_in_one_round() -> None:
    assert median_ratio([1, 20, 300], [1, 10, 100]) == 2


def test_cpu_time_is_that_of_the_whole_family() -> None:
    """Also of a child in a session of its own, as BentoML's workers are."""
    spin = "import time\nwhile True: time.process_time()"
    child = f"[sys.executable, '-c', {spin!r}], start_new_session=True"
    code = f"import subprocess, sys; subprocess.Popen({child}).wait()"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            deadline = time.monotonic() + 60
            while cpu_seconds(parent.pid) < 0.5 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert cpu_seconds(parent.pid) >= 0.5
        finally:
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
            subprocess.run(["kill", *children, str(parent.pid)], check=True)


@pytest.mark.parametrize(
    ("memory", "bad", "statuses", "wrong"),
    [
        ([100.0] * 40, 0, {"200": 9.0}, []),
        ([100.0] * 20 + [101.9] * 20, 0, {"200": 9.0}, []),
        ([100.0] * 20 + [102.1] * 20, 0, {"200": 9.0}, ["the memory grew by more than 2%"]),
        ([100.0] * 40, 1, {"200": 9.0}, ["requests failed"]),
        ([100.0] * 40, 0, {"200": 9.0, "500": 1.0}, ["requests failed"]),
        ([100.0] * 40, 0, {}, ["requests failed"]),
    ],
)
def test_a_soak_fails_on_errors_and_growth(
    soak: ModuleType, memory: list[float], bad: float, statuses: dict[str, float], wrong: list[str]
) -> None:
    assert [*soak._judged(memory, [1.0], bad, statuses)] == wrong
