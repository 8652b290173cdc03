"""What was measured in a wheel decides before what the tables list; without code for a GPU nothing runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.fit.judge import Outcome
from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.pins import Pin
from mlship.lock.record import MeasuredCode

CUDA = (Pin("nvidia-cuda-runtime-cu12", "12.8.90", ()),)
CAPABILITIES = ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
SETS = st.sets(st.sampled_from(CAPABILITIES), max_size=4).map(lambda found: " ".join(sorted(found, key=float)))
PARTS = st.lists(st.builds(MeasuredCode, SETS, SETS, SETS, st.booleans(), st.sampled_from(["", "12"])), max_size=3)


def matched(pin: Pin, capability: str, driver: str = "580.95.05", more: tuple[Pin, ...] = CUDA) -> Match:
    host = HostProfile("h", driver, (HostGpu("GPU", capability),), "linux/amd64")
    return match_needs(
        read_needs((pin, *more), host.platform, gpu=True), Fleet((host,), "h", committed=False), "bookworm"
    )


def serves(part: MeasuredCode, capability: str) -> bool:
    major, minor = map(int, capability.split("."))
    cubins = [tuple(map(int, text.split("."))) for text in part.cubins.split()]
    ptx = [tuple(map(int, text.split("."))) for text in part.ptx.split()]
    return (
        capability in part.specific.split()
        or any(each[0] == major and each[1] <= minor for each in cubins)
        or any(each <= (major, minor) for each in ptx)
    )


@given(PARTS, st.sampled_from(CAPABILITIES), st.sampled_from(["torch==2.8.0", "faiss-gpu==9.9", "ours==1.0"]))
def test_no_lock_runs_whose_wheel_has_no_code(parts: list[MeasuredCode], capability: str, text: str) -> None:
    name, _, version = text.partition("==")
    outcome = matched(Pin(name, version, (), code=tuple(parts)), capability).outcome
    if parts and not any(serves(part, capability) for part in parts):
        assert outcome == ("unknown" if name == "ours" else "refused")
    if parts and all(serves(part if name != "torch" else replace(part, ptx=""), capability) for part in parts):
        assert outcome == "runs"
    if name != "torch" and not all(serves(part, capability) for part in parts if part.cubins or part.ptx):
        assert outcome != "runs"


@pytest.mark.parametrize(
    ("code", "capability", "outcome"),
    [
        (MeasuredCode("7.5 8.0"), "9.0", "refused"),  # the tables list 9.0
        (MeasuredCode("6.1"), "6.1", "runs"),  # they do not list 6.1
        (MeasuredCode("8.0", cuda="13"), "8.0", "runs"),
        (MeasuredCode("8.0 8.6", "9.0"), "9.0", "runs"),
        (MeasuredCode("8.0 8.6", "9.0"), "10.0", "refused"),
    ],
)
def test_the_measurement_wins_over_the_tables(code: MeasuredCode, capability: str, outcome: Outcome) -> None:
    assert matched(Pin("torch", "2.8.0", (), code=(code,)), capability, "570.124.06").outcome == outcome


def test_a_library_for_another_cuda_does_not_count() -> None:
    parts = (MeasuredCode("8.0", cuda="12"), MeasuredCode("8.0 10.0", cuda="13"))
    pin = Pin("faiss-gpu-cu12", "9.9", (), code=parts)
    assert [matched(pin, capability).outcome for capability in ("8.0", "10.0")] == ["runs", "refused"]


def test_a_library_of_cuda_that_leaves_out_old_gpus_is_no_limit() -> None:
    sparse = Pin("nvidia-cusparselt-cu12", "0.7.1", (), code=(MeasuredCode("8.0 9.0 10.0 12.0"),))
    assert matched(Pin("torch", "2.8.0", ()), "7.5", more=(*CUDA, sparse)).outcome == "runs"


@pytest.mark.parametrize(
    ("second", "driver", "words"),
    [
        (MeasuredCode("8.0", "10.0"), "580.95.05", "only for 7.0, 8.0, 10.0"),
        (MeasuredCode("7.5", ptx="7.5"), "525.60.13", "only PTX of CUDA 12.8"),
    ],
)
def test_a_refusal_names_the_code_of_all_libraries_unless_the_driver_decides(
    second: MeasuredCode, driver: str, words: str
) -> None:
    match = matched(Pin("faiss-gpu-cu12", "9.9", (), code=(MeasuredCode("7.0"), second)), "9.0", driver)
    assert (match.outcome, words in match.verdicts[0].reasons[0].text) == ("refused", True)


def test_ptx_that_a_row_leaves_out_does_not_count() -> None:
    """TensorFlow's does not load on compute capability 12.0."""
    pin = Pin("tensorflow", "2.21.0", (), code=(MeasuredCode("6.0 7.0 8.0 8.9 9.0", ptx="9.0"),))
    cublas = Pin("nvidia-cublas-cu12", "12.8.4.1", ())
    assert [matched(pin, capability, more=(*CUDA, cublas)).outcome for capability in ("9.0", "12.0")] == [
        "runs",
        "refused",
    ]


def test_code_for_a_single_gpu_is_an_addition() -> None:
    pin = Pin("faiss-gpu-cu12", "9.9", (), code=(MeasuredCode("8.0 8.6"), MeasuredCode(specific="9.0")))
    assert [matched(pin, capability).outcome for capability in ("8.0", "9.0", "10.0")] == ["runs", "unknown", "refused"]


def test_only_some_libraries_with_code_are_unknown() -> None:
    pin = Pin("faiss-gpu-cu12", "9.9", (), code=(MeasuredCode("8.0"), MeasuredCode("8.0 10.0")))
    assert [matched(pin, capability).outcome for capability in ("8.0", "10.0")] == ["runs", "unknown"]


@pytest.mark.parametrize(("compressed", "outcome"), [(True, "unknown"), (False, "runs")])
def test_compression_is_what_was_measured(compressed: bool, outcome: Outcome) -> None:
    match = matched(Pin("torch", "2.8.0", (), code=(MeasuredCode("8.0", compressed=compressed),)), "8.0", "535.161.08")
    assert match.outcome == outcome
    kinds = {reason.kind for verdict in match.verdicts for reason in verdict.reasons}
    assert "compressed-fatbin" not in kinds


def test_the_linked_cuda_is_the_need_of_a_package_that_names_none() -> None:
    pin = Pin("ours", "1.0", (), code=(MeasuredCode("8.0", cuda="13"),))
    assert [matched(pin, "8.0", driver, ()).outcome for driver in ("580.95.05", "550.54.15")] == ["runs", "refused"]
    silent = Pin("ours", "1.0", (), code=(MeasuredCode("8.0"),))
    assert matched(silent, "8.0", more=()).outcome == "unknown"


def test_a_difference_from_the_tables_is_reported() -> None:
    listed = MeasuredCode("7.0 7.5 8.0 8.6 9.0 10.0 12.0")
    assert not matched(Pin("torch", "2.8.0", (), code=(listed,)), "8.0").needs.warnings
    match = matched(Pin("torch", "2.8.0", (), code=(MeasuredCode("8.0 9.0"),)), "8.0")
    assert match.outcome == "runs"
    assert "but its wheel has code for 8.0, 9.0" in match.needs.warnings[0].text
