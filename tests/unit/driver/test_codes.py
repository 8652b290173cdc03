"""Return codes of NVML and CUDA: the table is complete, and newer codes still get a name."""

import pynvml
import pytest

from mlship.driver import codes

NAMES: dict[int, str] = {value: name for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}


@pytest.mark.parametrize("code", sorted(NAMES))
def test_the_table_has_every_code_of_nvml(code: int) -> None:
    assert codes.code_tables().nvml[code].name in {NAMES[code], NAMES[code].removeprefix("NVML_ERROR_")}


def test_a_code_newer_than_the_table_is_named_by_nvidia_ml_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "NVML_ERROR_NEW", 4711, raising=False)
    assert codes.nvml(4711) == "4711 (NVML_ERROR_NEW)"
    assert codes.nvml(4712) == "4712"


def test_a_known_code_has_its_description() -> None:
    assert codes.nvml(18) == "18 (driver/library version mismatch)"
    assert codes.cuda(12345) == "12345"
