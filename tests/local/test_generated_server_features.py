"""The policy for ranges and missing values of the generated server, from `features` of metadata.json."""

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.helpers.generated_server import Running, initialised, run_code, served
from tests.helpers.repos import onnx_bytes

FEATURES: dict[str, dict[str, object]] = {
    "x[0]": {"min": 0.1, "max": 10},
    "x[1]": {"min": 0, "missing": -1, "indicator": "x[3]"},
    "x[2]": {"missing": "nan"},
}
PLAIN = "def load(): return lambda payload: {key: repr(value) for key, value in payload.items()}"
PLAIN_SAMPLE = '{"age": 30.5, "age_missing": 0, "rows": [[1.5, 2.5]], "size": 1.5, "name": "a"}'
PLAIN_FEATURES: dict[str, dict[str, object]] = {
    "age": {"min": 0, "max": 130, "missing": 40, "indicator": "age_missing"},
    "rows[1]": {"max": 9},
    "size": {"missing": "nan"},
}


def repository(
    folder: Path, files: dict[str, str | bytes], features: dict[str, dict[str, object]], **more: object
) -> Path:
    return initialised(folder, {**files, "metadata.json": json.dumps({"features": features, **more})})


def refusal(server: Running, payload: object) -> tuple[str, str]:
    """Path and message of a refused request."""
    status, text = server.ask("/predict", json.dumps(payload).encode())
    assert status == 422, text
    return json.loads(text)["path"], json.loads(text)["detail"]


def test_tensors_follow_the_policy_of_each_column(tmp_path: Path) -> None:
    sample = '{"x": [[1, 2, 3, 0]]}'
    repo = repository(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": sample}, FEATURES)
    assert "source: [metadata.json, serving]\n" in (repo / "mlship.yaml").read_text()
    rows = [[1, None, None, None], [1, 2, 3, None], [1, 2, 3, 1]]
    code = f"""
from serving.predictor import Predictor
from serving.schema import decode
p = Predictor()
print(p.batches, p.parse({json.dumps({"x": rows}).encode()!r})["x"].tolist())
"""
    expected = "True [[1.0, -1.0, nan, 1.0], [1.0, 2.0, 3.0, 0.0], [1.0, 2.0, 3.0, 1.0]]\n"
    assert run_code(repo, code).stdout == expected
    with served(repo, MODEL_VERSION="7") as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", b'{"x": [[1, null, 3, null]]}') == (200, '{"outputs":{"y":[[4.0,4.0]]}}')
        assert server.ask("/predict", b'{"x": [[0.1, 2, 3, 0]]}')[0] == 200  # float32 rounds the limit, too
        good = [1, 2, 3, 0]
        assert refusal(server, {"x": [good, [0, 2, 3, 0]]}) == ("$.x[1][0]", "expected a number >= 0.1 and <= 10")
        assert refusal(server, {"x": [good, [None, 2, 3, 0]]}) == ("$.x[1][0]", "expected a number, got null")
        assert refusal(server, {"x": [[1, -0.5, 3, 0]]}) == ("$.x[0][1]", "expected a number >= 0")
        assert refusal(server, {"x": [[1, None, 3, 0]]})[0] == "$.x[0][3]"  # says that nothing is missing
        assert server.ask("/predict", b'{"x": [[1, 2, null, 0]]}')[0] == 500  # a sum: the output is NaN
        for payload in ({"x": [["1", None, 3, 0]]}, {"x": [[True, None, 3, 0]]}, {"x": [None]}, {"x": None}):
            assert server.ask("/predict", json.dumps(payload).encode())[0] == 422
        tensor: dict[str, object] = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
        for data, status in (([1, None, 3, None], 200), ([None, 2, 3, 0], 422), ([1, "2", None, 0], 422)):
            body = json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
            assert server.ask("/v2/models/model/infer", body)[0] == status, data
        for first, status in ((1, 200), (float("nan"), 422), (11, 422)):
            assert binary(server, tensor, [first, float("nan"), 3, float("nan")]) == status
        page = server.ask("/metrics")[1]
    labels = 'feature="%s",model_version="7",problem="%s"'
    for feature, problem, count in (
        ("x[0]", "out of range", 2),
        ("x[0]", "null refused", 3),
        ("x[2]", "null", 1),
        ("x[1]", "null", 4 + 2),
    ):
        assert f"serving_feature_problems_total{{{labels % (feature, problem)}}} {count}.0" in page, page


def binary(server: Running, tensor: dict[str, object], values: list[float]) -> int:
    """The status of a request with the binary tensor extension."""
    from http.client import HTTPConnection

    raw = struct.pack(f"<{len(values)}f", *values)
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", "/v2/models/model/infer", head + raw, headers)
    with connection.getresponse() as answer:
        status = answer.status
    connection.close()
    return status


def test_plain_requests_follow_the_policy_of_each_field(tmp_path: Path) -> None:
    repo = repository(tmp_path, {"plain.py": PLAIN, "sample.json": PLAIN_SAMPLE}, PLAIN_FEATURES)
    model = (repo / "serving/model.py").read_text()
    assert "    age: float | None\n    age_missing: int | float | None\n    rows: " in model
    good = json.loads(PLAIN_SAMPLE)
    with served(repo) as server:
        server.wait("/health/ready", 200)
        given = {**good, "age": None, "age_missing": None, "size": None}
        status, text = server.ask("/predict", json.dumps(given).encode())
        assert status == 200
        seen = json.loads(text)["outputs"]
        assert (seen["age"], seen["age_missing"], seen["size"], seen["rows"]) == ("40.0", "1", "nan", "[[1.5, 2.5]]")
        status, text = server.ask("/predict", json.dumps({**good, "age_missing": None}).encode())
        assert (status, json.loads(text)["outputs"]["age_missing"]) == (200, "0")
        for changes, path, message in (
            ({"age": 131}, "$.age", "expected a number >= 0 and <= 130"),
            ({"age": -1}, "$.age", "expected a number >= 0 and <= 130"),
            ({"age": None}, "$.age", "is null, but its indicator is not 1"),
            ({"rows": [[1, 2], [1, 9.5]]}, "$.rows[1][1]", "expected a number <= 9"),
            ({"rows": [[1, 2], [1, None]]}, "$.rows[1][1]", "Expected `float`, got `null`"),
            ({"rows": [[1, 2], [1]]}, "$.rows[1]", "expected a list with at least 2 values"),
        ):
            assert refusal(server, {**good, **changes}) == (path, message)
        page = server.ask("/metrics")[1]
    assert 'problem="out of range"} 2.0' in page
    assert 'feature="age",model_version="unknown",problem="null"} 2.0' in page


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"z": {"min": 0}}, "metadata.json: the model has no numbers at `z`"),
        ({"x[4]": {"min": 0}}, "metadata.json: the model has no numbers at `x[4]`"),
        ({"x[1]": {"missing": 0, "indicator": "y"}}, "metadata.json: the model has no numbers at `y`"),
    ],
)
def test_limits_that_no_input_has_end_the_process(
    tmp_path: Path, features: dict[str, dict[str, object]], message: str
) -> None:
    repo = repository(tmp_path, {"model.onnx": onnx_bytes()}, features)
    with served(repo) as server:
        log = server.ended()
    assert (server.process.returncode, f"ValueError: {message}\n" in log) == (1, True), log


def test_without_limits_there_is_no_policy(tmp_path: Path) -> None:
    for name, features in (("none", {}), ("others", ["x"]), ("types", {"x": "float"})):
        files: dict[str, str | bytes] = {
            "model.onnx": onnx_bytes(),
            "metadata.json": json.dumps({"features": features}),
        }
        repo = initialised(tmp_path / name, files)
        assert not (repo / "serving/features.py").exists()
        assert "features" not in (repo / "serving/tensors.py").read_text()
        assert "source: [serving]\n" in (repo / "mlship.yaml").read_text()


_MIXED: list[object] = [None, -2, -1, 0, 0.05, 0.1, 1, 1.5, 8.5, 9.5, 10, 11, 129, 131, 1e30, 1e39, "1", True, []]
_VALUES = st.sampled_from(_MIXED)
_USUAL = st.sampled_from([None, 1, 1.5, 8.5])
_ROW = st.lists(_USUAL | _VALUES, min_size=4, max_size=4) | st.lists(_USUAL, min_size=0, max_size=5)
_PAIR = st.lists(_USUAL | st.sampled_from([9.5, "1", None]), min_size=0, max_size=3)
_PAYLOADS = {
    "tensors": st.fixed_dictionaries({"x": st.lists(_ROW, min_size=0, max_size=2)}),
    "plain": st.fixed_dictionaries(
        {
            "age": _USUAL | _VALUES,
            "age_missing": st.sampled_from([None, 1, 1]) | _VALUES,
            "rows": st.just([[1.5, 2.5]]) | st.lists(_PAIR, max_size=2),
            "size": _USUAL | _VALUES,
            "name": st.sampled_from(["a", "b", "c", 1]),
        }
    )
    | st.just({"age": 1}),
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Running, Draft202012Validator]]]:
    """A server of each kind, and the type of its request by its OpenAPI document."""
    features: dict[str, dict[str, object]] = {**FEATURES, "x[2]": {"max": 1e4}}  # a model that adds returns NaN for NaN
    repositories: dict[str, tuple[dict[str, str | bytes], dict[str, dict[str, object]]]] = {
        "tensors": ({"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 0]]}'}, features),
        "plain": ({"plain.py": PLAIN, "sample.json": PLAIN_SAMPLE}, PLAIN_FEATURES),
    }
    with ExitStack() as stack:
        found = {}
        for name, (files, limits) in repositories.items():
            server = stack.enter_context(served(repository(tmp_path_factory.mktemp(name), files, limits)))
            server.wait("/health/ready", 200)
            document = json.loads(server.ask("/openapi.json")[1])
            assert server.ask("/docs")[0] == 200
            validator = Draft202012Validator({**document, "$ref": "#/components/schemas/Request"})
            validator.check_schema(document["components"]["schemas"]["Request"])
            found[name] = (server, validator)
        yield found


@pytest.mark.parametrize("name", _PAYLOADS)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_openapi_document_allows_exactly_what_is_not_refused(
    described: dict[str, tuple[Running, Draft202012Validator]], name: str, data: st.DataObject
) -> None:
    server, validator = described[name]
    payload = data.draw(_PAYLOADS[name])
    allowed = validator.is_valid(payload)
    event(f"allowed: {allowed}")
    status, text = server.ask("/predict", json.dumps(payload).encode())
    assert status == (200 if allowed else 422), text


def test_the_openapi_document_says_the_policy(described: dict[str, tuple[Running, Draft202012Validator]]) -> None:
    schemas = {name: validator.schema["components"]["schemas"]["Request"] for name, (_, validator) in described.items()}
    columns = schemas["tensors"]["properties"]["x"]["items"]["allOf"][0]["prefixItems"]
    assert columns[0] == {"type": "number", "minimum": 0.1, "maximum": 10}
    assert columns[1]["type"] == ["number", "null"]
    assert (columns[1]["minimum"], columns[1]["description"]) == (0, "null becomes -1.0")
    assert columns[3]["description"] == "null becomes 0 or 1"
    fields = schemas["plain"]["properties"]
    limits = {"minimum": 0, "maximum": 130}
    assert fields["age"] == {"type": ["number", "null"], **limits, "description": "null becomes 40.0"}
    assert fields["size"] == {"type": ["number", "null"], "description": "null becomes nan"}
    assert fields["name"] == {"type": "string"}
