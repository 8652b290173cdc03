"""NVML's field for the recovery action: where it is in the structure, and what the facts make of it."""

import ctypes

import pynvml
import pytest

from mlship.doctor.facts.fact import UNKNOWN, Fact, each, known
from mlship.doctor.probes.driver import nvml_facts
from mlship.driver import ask
from mlship.driver.child import ChildResult
from tests.helpers.nvml_lines import answer_lines, call_lines, gpu

ACTIONS = {value: name for name, value in vars(pynvml).items() if name.startswith("NVML_GPU_RECOVERY_ACTION_")}


def test_the_field_is_where_the_driver_writes_it() -> None:
    """A function that answers like NVML, through the structure of nvidia-ml-py."""
    seen: list[int] = []
    answers: dict[str, object] = {}

    def fills(*given: object) -> int:
        fields = ctypes.cast(given[2], ctypes.POINTER(pynvml.c_nvmlFieldValue_t))  # type: ignore[arg-type]
        seen.extend((int(str(given[1])), fields[0].fieldId))
        fields[0].nvmlReturn, fields[0].value.uiVal = 0, pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET
        return 0

    class Calls:
        def ask(self, name: str, shape: ask.Shape, *given: object, **_: object) -> None:
            if name == "nvmlDeviceGetFieldValues":
                answers[name] = shape(fills, *given)

    ask.nvml_health(Calls(), ctypes.c_void_p(1), 0)  # type: ignore[arg-type]  # a stand-in for LibraryCalls
    assert seen == [1, pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
    assert answers == {"nvmlDeviceGetFieldValues": (0, [0, 4])}


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        *((call_lines("nvmlDeviceGetFieldValues", [0, value], 0), name) for value, name in ACTIONS.items()),
        (call_lines("nvmlDeviceGetFieldValues", [3, 0], 0), UNKNOWN),
        (call_lines("nvmlDeviceGetFieldValues", device=0, code=13), UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_the_action_in_words(lines: list[str], wanted: Fact[str]) -> None:
    found = nvml_facts(ChildResult([*answer_lines([*gpu(0), *lines])], "ended", 0).driver)
    action = each(found.devices)[0].recovery_action
    if isinstance(wanted, str):
        last = wanted.rpartition("_")[2].lower()
        assert (known(action) or "").lower().split()[-1] in {last, {"domain": "imex"}.get(last)}
    else:
        assert action == wanted
