"""The statistics and the limits of features in metadata.json: valid, absent, or named as wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.project.metadata import METADATA, FeatureLimits, TrainingStatistics, features_of, statistics_of

FEATURE = {"deciles": [1.0, 2, 3], "mean": 2, "variance": 0.5}
T = TypeVar("T")


def of_file(text: str, part: Callable[[Path], T]) -> T:
    with TemporaryDirectory() as folder:
        (Path(folder) / METADATA).write_text(text, encoding="utf-8")
        return part(Path(folder))


def read_statistics(text: str) -> TrainingStatistics | str | None:
    return of_file(text, statistics_of)


def read_features(text: str) -> dict[str, FeatureLimits] | str | None:
    return of_file(text, features_of)


def read(**changes: object) -> TrainingStatistics | str | None:
    return read_statistics(json.dumps({"statistics": {"inputs": {"rows[2]": {**FEATURE, **changes}}}, "other": 1}))


def test_statistics_are_read_beside_other_keys() -> None:
    found = read(shares=[0.5, 0.25, 0.125, 0.125], null_rate=0.1)
    assert isinstance(found, TrainingStatistics)
    assert [*found.inputs["rows[2]"].deciles] == [1, 2, 3]
    assert found.inputs["rows[2]"].null_rate == 0.1


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "{}", '{"statistics": null}', '{"statistics": [1]}'])
def test_a_file_without_statistics_is_another_programs(text: str) -> None:
    assert read_statistics(text) is None


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"deciles": [1, 1]}, "`statistics.inputs.rows[2]`: `deciles` must increase"),
        ({"deciles": [1, float("nan")]}, "`statistics.inputs.rows[2].deciles.1`: Input should be a finite number"),
        ({"shares": [1.0]}, "`statistics.inputs.rows[2]`: `shares` must have 4 numbers, one more than `deciles`"),
        ({"shares": [0.1] * 4}, "`statistics.inputs.rows[2]`: `shares` must add up to 1"),
        ({"variance": -1}, "`statistics.inputs.rows[2].variance`: Input should be greater than or equal to 0"),
        ({"median": 1}, "`statistics.inputs.rows[2].median`: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], wrong: str) -> None:
    assert read(**changes) == wrong


def limits(**feature: object) -> object:
    return read_features(json.dumps({"features": {"age": feature}}))


def test_limits_of_features_are_read() -> None:
    found = read_features('{"features": {"age": {"min": 0, "missing": 40, "indicator": "unknown"}, "x[1]": {}}}')
    assert isinstance(found, dict)
    assert (found["age"].min, found["age"].missing, found["age"].indicator) == (0, 40, "unknown")
    assert found["x[1]"].max is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"features": ["age"]}', '{"features": {"age": "float"}}'])
def test_other_features_are_another_programs(text: str) -> None:
    assert read_features(text) is None


@pytest.mark.parametrize(
    ("feature", "wrong"),
    [
        ({"min": 2, "max": 1}, "`features.age`: `min` is above `max`"),
        ({"missing": 0}, "`features.age`: a number in `missing` needs an `indicator`, and only a number has one"),
        ({"indicator": "x"}, "`features.age`: a number in `missing` needs an `indicator`, and only a number has one"),
        ({"maximum": 1}, "`features.age.maximum`: Extra inputs are not permitted"),
        ({"min": float("inf")}, "`features.age.min`: Input should be a finite number"),
    ],
)
def test_wrong_limits_are_named(feature: dict[str, object], wrong: str) -> None:
    assert limits(**feature) == wrong


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.sampled_from(["deciles", "mean"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["inputs", "outputs", "a[1]", "deciles", "mean", "variance"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_named(value: object) -> None:
    found = read_statistics(json.dumps({"statistics": value}))
    assert found is None or isinstance(found, TrainingStatistics) or found.startswith("`statistics")
