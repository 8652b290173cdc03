"""The written type of a request accepts the sample that it was written from."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.init.detect import detect
from mlship.init.found import Detection
from mlship.init.request_type import RequestType, request_type

NAMES = st.text(max_size=5) | st.sampled_from(["input_1", "input_2", "input_3", "input.1", "class", "msgspec", "😀"])
VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers() | st.none(), max_size=2)
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Detection:
    return detect(tmp_path_factory.mktemp("requests"))


def typed(found: Detection, sample: str) -> RequestType:
    (found.root / "sample.json").write_text(sample, encoding="utf-8")
    return request_type(found, "sample.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sample=st.dictionaries(NAMES, VALUES, max_size=5) | st.lists(VALUES, max_size=3))
def test_the_type_accepts_its_sample(found: Detection, sample: object) -> None:
    text = json.dumps(sample)
    request = typed(found, text)
    lines = "".join(f"    {line}\n" for line in request.fields or ())
    body = (
        f"class Request(msgspec.Struct, forbid_unknown_fields=True):\n{lines}"
        if lines
        else f"Request = {request.whole}"
    )
    written: dict[str, object] = {"msgspec": msgspec, "Any": Any}
    exec(body, written)
    decoded = msgspec.json.decode(text, type=written["Request"])
    assert len(msgspec.json.decode(msgspec.json.encode(decoded))) == len(sample)  # type: ignore[arg-type]


@pytest.mark.parametrize("sample", ['{"\\ud800": 1}', '{"a\\"b": 1}', '{"a\\\\b": 1}', '{"a\\nb": 1}'])
def test_names_that_no_field_can_have_are_left_to_the_model(found: Detection, sample: str) -> None:
    assert (typed(found, sample).fields, typed(found, sample).whole) == (None, "dict[str, Any]")


@pytest.mark.parametrize("sample", ["", "{", "\ufeff["])
def test_nothing_is_required_of_a_request_without_a_valid_sample(found: Detection, sample: str) -> None:
    assert (typed(found, sample).fields, typed(found, sample).whole) == (None, "Any")


def test_nothing_is_required_of_a_request_without_a_sample(found: Detection) -> None:
    assert request_type(found, "absent.json").whole == "Any"
