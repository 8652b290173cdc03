"""`smoke.request` and `smoke.env`: defaults, refusals, and values that no message shows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project.config import Config
from mlship.project.load import parse_config
from mlship.project.paths import check_paths
from mlship.project.request import SampleRequest
from mlship.project.testing import hider, resolve_test_values

SERVER = """\
name: flask-tutorial
serve: {command: [flask, run], predict: /predict}
source: [app.py]
"""


def config(smoke: str = "", rest: str = SERVER) -> Config:
    return parse_config(f"{rest}smoke:\n  {smoke}\n" if smoke else rest)


def refusal(smoke: str = "", rest: str = SERVER) -> str:
    with pytest.raises(UsageError) as caught:
        config(smoke, rest)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("{path: /}", SampleRequest("GET", "/")),
        ("{}", SampleRequest("GET", "/predict")),
        ("{body: cat.jpg}", SampleRequest("POST", "/predict", "cat.jpg")),
        ("{form: {age: 3, city: Rome}}", SampleRequest("POST", "/predict", form={"age": "3", "city": "Rome"})),
        ("{files: {image: a/cat.jpg}}", SampleRequest("POST", "/predict", files={"image": "a/cat.jpg"})),
        (
            "{method: PUT, query: {n: 1.5, all: true}}",
            SampleRequest("PUT", "/predict", query={"n": "1.5", "all": "true"}),
        ),
        ("{path: /, expect: {status: 302}}", SampleRequest("GET", "/", status=302)),
    ],
)
def test_a_request_has_defaults(request_: str, expected: SampleRequest) -> None:
    assert config(f"request: {request_}").asked == expected


def test_without_one_the_sample_is_sent() -> None:
    found = config(rest=f"{SERVER}model: {{sample: cat.png}}\n")
    assert found.asked == SampleRequest("POST", "/predict", "cat.png")
    assert found.test_files == ("cat.png",)


@pytest.mark.parametrize(
    ("smoke", "said"),
    [
        ("memory: 1g", "nothing to test with"),
        ("request: {body: a.png, form: {a: b}}", "smoke.request: body cannot be combined with form or files"),
        ("request: {method: GET, body: a.png}", "a GET request has no body"),
        ("request: {method: HEAD}", "smoke.request.method: must be 'GET', 'POST'"),
        ("request: {path: predict}", "is not a URL path"),
        ("request: {bodi: a.png}", "smoke.request.bodi: unknown key; did you mean `body`?"),
        ("request: {expect: {typ: a/b}}", "smoke.request.expect.typ: unknown key; did you mean `type`?"),
        ("request: {expect: {type: html}}", "is not a content type"),
        ("request: {expect: {values: {label: cat}}}", "is not a JSON path"),
        ("request: {expect: {status: 99}}", "smoke.request.expect.status"),
        ("request: {headers: {'a b': c}}", "is not the name of an HTTP header"),
        ("request: {headers: {Host: c}}", "Host is set by the client itself"),
        ('request: {headers: {X-A: "a\\nb"}}', "control characters"),
        ("request: {headers: {X-A: ü}}", "ASCII only"),
        ("request: {headers: {Authorization: Bearer abc}}", "Authorization looks like a credential"),
        ("request: {query: {api_key: abc}}", "api_key looks like a credential"),
        ("request: {form: {password: abc}}", "password looks like a credential"),
        ("request: {headers: {X-Token: '${TOKEN}'}}", "smoke.request uses ${TOKEN}, which is not under smoke.env"),
        ("request: {files: {a: ../x.png}}", "is not a path inside the repository"),
        ("env: {A-B: c}", "'A-B' is not a name for an environment variable"),
        ("shm: lots", "smoke.shm"),
    ],
)
def test_refusals_name_the_key_and_the_reason(smoke: str, said: str) -> None:
    assert said in refusal(smoke)


@pytest.mark.parametrize("value", ["[hunter2]", "{a: hunter2}", '"hunter2\\n"'])
def test_no_refusal_shows_a_value_for_tests(value: str) -> None:
    assert "hunter2" not in refusal(f"env: {{TOKEN: {value}}}")


def test_ordinary_parameters_are_no_credentials() -> None:
    request = "request: {query: {max_tokens: 64, token: 5, tokenizer: bert}, headers: {X-Api-Key: '${KEY}'}}"
    assert config(f"env: {{KEY: null}}\n  {request}").smoke.request is not None


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("model: {load: a:b}\n", "line 4: model: sample is missing"),
        ("gpu:\nmodel: {sample: a.json}\n", "gpu needs model.load"),
        ("model: {sample: a.json, golden: g.json}\n", "model.golden needs model.load"),
        ("model: {sample: a.json, output_shape: [1]}\n", "model.output_shape needs model.load"),
        ("model: {sample: a.json}\nenv: {A: b}\nsmoke: {env: {A: c}}\n", "A is under env and smoke.env"),
    ],
)
def test_what_cannot_be_tested_is_refused(rest: str, said: str) -> None:
    assert said in refusal(rest=SERVER + rest)


def test_every_file_must_exist_and_only_json_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    found = config("request: {files: {image: cat.jpg, mask: mask.png}}")
    (tmp_path / "cat.jpg").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"smoke.request.files.mask: `mask.png` does not exist"):
        check_paths(tmp_path, found)
    (tmp_path / "mask.png").write_bytes(b"\xff")
    check_paths(tmp_path, found)
    (tmp_path / "cat.json").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"smoke.request.body: `cat.json` is not JSON"):
        check_paths(tmp_path, config("request: {body: cat.json}"))


def test_null_takes_the_value_of_the_environment() -> None:
    assert resolve_test_values({"A": None, "B": "b"}, {"A": "a", "B": "other"}) == {"A": "a", "B": "b"}
    with pytest.raises(UsageError, match="needs A, C, which the environment does not have") as caught:
        resolve_test_values({"A": None, "C": None}, {})
    assert "export A=" in caught.value.hint


@given(st.text(min_size=8, max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_long_value_is_never_shown(value: str, before: str, after: str) -> None:
    assert value not in hider({"ANY": value})(before + value + after).replace("***", "")


def test_short_values_are_hidden_if_they_are_named_like_credentials() -> None:
    hide = hider({"TOKEN": "ab/c", "MODE": "test", "PASSWORD": "1"})
    assert hide("ab/c ab%2Fc test 1") == "*** *** test 1"
