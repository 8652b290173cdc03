"""Whatever differs between two registered models is a difference."""

import json
from typing import TypeAlias

import pytest

from mlship.models.registered import RegisteredModel, model_changes
from mlship.versioned import adapter

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
VERSION = f"digits/{'0' * 40}/20260301T100000Z"
PARENT: Json = {"version": VERSION, "checksum": "sha256:3"}


def document() -> dict[str, Json]:
    return {
        "schema": 1,
        "created": "2026-03-01T10:00:00Z",
        "python": "3.11.9",
        "platform": "linux/amd64",
        "cuda": "12.8",
        "git": {"commit": "0" * 40, "dirty": False},
        "packages": {"numpy": "2.3.5"},
        "imported": {"numpy": "numpy"},
        "files": {"model.onnx": {"sha256": "a" * 64, "size": 3}},
        "metrics": {"accuracy": 1, "confusion": [[1, 0], [0, 1]]},
        "statistics": [1.5, {"a.b": 1}],
        "signature": {"inputs": [{"name": "x", "type": "float"}]},
        "seed": 7,
        "data": {"train": {"rows": 100, "empty": {}}},
        "registration": {"schema": 1, "version": VERSION, "sample": "a.json", "parents": []},
        "checksum": "sha256:1",
    }


def read(found: dict[str, Json]) -> RegisteredModel:
    return adapter(RegisteredModel).validate_json(json.dumps(found))


def test_the_same_at_another_time_is_no_difference() -> None:
    other = document() | {"created": "2026-03-02T10:00:00Z", "checksum": "sha256:2"}
    other["registration"] = {"schema": 1, "version": VERSION.replace("0301", "0302"), "sample": "a.json", "parents": []}
    assert model_changes(read(document()), read(other)) == ()


@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        ("python", "3.12.1"),
        ("cuda", None),
        ("git", {"commit": "1" * 40, "dirty": False}),
        ("git", {"commit": "0" * 40, "dirty": None}),
        ("packages", {"numpy": "2.3.5", "scipy": "1.17.0"}),
        ("imported", {"np": "numpy"}),
        ("files", {"model.onnx": {"sha256": "b" * 64, "size": 3}}),
        ("metrics", {"accuracy": True, "confusion": [[1, 0], [0, 1]]}),
        ("metrics", {"accuracy": 1, "confusion": [[1, 0], [1, 1]]}),
        ("statistics", [1.5, {"a": {"b": 1}}]),
        ("statistics", None),
        ("signature", {"inputs": [{"name": "x", "type": "double"}]}),
        ("seed", 8),
        ("data", {"train": {"rows": 101, "empty": {}}}),
        ("data", {"train": {"rows": 100}}),
        ("registration", {"schema": 1, "version": VERSION, "sample": "a.json", "golden": "b.json"}),
        ("registration", {"schema": 1, "version": VERSION, "sample": "a.json", "parents": [PARENT]}),
    ],
)
def test_any_other_change_is_one(change: tuple[str, Json], swapped: bool) -> None:
    pair = [read(document()), read(document() | dict([change]))]
    assert model_changes(*pair[:: -1 if swapped else 1])


def test_a_first_package_or_metric_is_one_difference() -> None:
    """An empty table is no fact: `package : {} → none` would be a difference without a name."""
    less = document() | {"packages": {}, "metrics": {}}
    found = model_changes(read(less), read(document()))
    assert [(one.kind, one.name) for one in found] == [
        ("package", "numpy"),
        ("metric", "accuracy"),
        ("metric", "confusion"),
    ]
