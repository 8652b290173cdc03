"""What a route's function reads of a request, in the ways that Flask and FastAPI offer."""

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.init.detect import detect
from mlship.init.handlers import Handler, RequestModel, example_of, form_fields, read_handler, request_models
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write


def handler(body: str, arguments: str = "", path: str = "/predict") -> Handler:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (function,) = ast.parse(f"async def f({arguments}):\n{lines}").body
    assert isinstance(function, ast.AsyncFunctionDef)
    return read_handler(function, path)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = request.form['x']; b = request.form.get('y', 0)", Handler("f", form=("x", "y"))),
        ("return model([float(v) for v in request.form.values()])", Handler("f", whole=frozenset({"form"}))),
        ("d = request.form.to_dict()", Handler("f", whole=frozenset({"form"}))),
        ("request.files['image'].read(); request.form['k']", Handler("f", form=("k",), files=("image",))),
        ("request.args.get('text')", Handler("f", query=("text",))),
        (
            "data = request.get_json(force=True); data['a']; data.get('b')",
            Handler("f", json=("a", "b"), whole=frozenset({"json"})),
        ),
        ("request.json['a']", Handler("f", json=("a",))),
        ("data = await request.json(); data['a']", Handler("f", json=("a",))),
        ("form = await request.form(); form['a']", Handler("f", form=("a",))),
        ("other.form['x']; data['y']", Handler("f")),
    ],
)
def test_what_flask_and_starlette_read(body: str, expected: Handler) -> None:
    assert handler(body) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("file: UploadFile = File(...)", Handler("f", files=("file",))),
        ("file: UploadFile", Handler("f", files=("file",))),
        ("file: Annotated[bytes, File()]", Handler("f", files=("file",))),
        ("title: str = Form(...), age: Annotated[int, Form()] = 3", Handler("f", form=("title", "age"))),
        ("text: str, top: int = 3", Handler("f", query=("text",))),
        ("data: Flower, background: BackgroundTasks = None", Handler("f", models=("Flower",))),
        ("request: Request", Handler("f")),
        ("lang: str = Query('en'), n: int = Query(...)", Handler("f", query=("n",))),
        ("request: Flower", Handler("f", models=("Flower",))),
        ("name, id: int", Handler("f", query=("id",))),
        ("x: list[float]", Handler("f", whole=frozenset({"json"}))),
        ("id: int, data: Dict[str, float]", Handler("f", query=("id",), whole=frozenset({"json"}))),
        ("tag: list[str] = Query(...)", Handler("f", query=("tag",))),
        ("rows: list[list[float]] | None = None", Handler("f")),
        ("user: Annotated[dict, Depends(found)], token: Annotated[str, Depends(scheme)]", Handler("f")),
        ("key: Annotated[str, Header()], data: Flower", Handler("f", models=("Flower",))),
    ],
)
def test_what_fastapi_declares(arguments: str, expected: Handler) -> None:
    assert handler("pass", arguments, "/predict/{name}") == expected


def test_models_and_pages_name_the_fields() -> None:
    models = request_models(ast.parse("class Flower(BaseModel):\n    a: float\n    b: int = 3\nclass X: pass\n").body)
    assert models == {"Flower": RequestModel(("a",))}
    assert Handler("f", models=("Flower",)).completed(models, iter(()), "/p").json == ("a",)
    page = """<form action="/search"><input name="q"></form>
    <form action="{{ url_for('f') }}" method="post"><input name=a><select name="b"></select>
    <input type=submit name=go></form>"""
    assert Handler("f", whole=frozenset({"form"})).completed({}, iter(("", page)), "/p").form == ("a", "b")
    assert form_fields(page, "g", "/search") == ("q",)
    assert form_fields(page, "g", "/p") == ()


@given(st.text(max_size=80))
def test_no_page_raises(html: str) -> None:
    assert isinstance(form_fields(html, "f", "/"), tuple)


def test_required_fields_of_a_model() -> None:
    required = {"a": "int", "b": "int = ...", "c": "int = Field(..., gt=0)", "x": "int = Field(alias='d')"}
    others = {
        "e": "int = 1",
        "f": "int = Field(1)",
        "g": "int = Field(default=1)",
        "h": "list = Field(default_factory=x)",
    }
    lines = "".join(f"    {name}: {rest}\n" for name, rest in {**required, **others}.items())
    assert request_models(ast.parse(f"class A(BaseModel):\n{lines}").body) == {"A": RequestModel(("a", "b", "c", "d"))}


EXAMPLE = {"a": 1.5, "names": ["x", None], "on": True}


@pytest.mark.parametrize(
    "settings",
    [
        f"model_config = {{'json_schema_extra': {{'example': {EXAMPLE}}}}}",
        f"model_config = ConfigDict(json_schema_extra={{'examples': [{EXAMPLE}, {{'a': 2}}]}})",
        f"class Config:\n        schema_extra = {{'example': {EXAMPLE}}}",
        f"class Config:\n        json_schema_extra = {{'example': {EXAMPLE}}}",
    ],
)
def test_the_example_of_a_model_is_a_request(settings: str) -> None:
    code = (
        f"class M(BaseModel):\n    a: float = Field(example=7)\n    {settings}\n    names: list\n    on: bool = False\n"
    )
    assert json.loads(example_of("M", request_models(ast.parse(code).body))) == EXAMPLE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=4))
def test_any_object_of_json_is_an_example_and_nothing_else_is(given_: dict[str, object]) -> None:
    code = f"class M(BaseModel):\n    model_config = {{'json_schema_extra': {{'example': {given_!r}}}}}\n"
    found = example_of("M", request_models(ast.parse(code).body))
    assert (json.loads(found) == given_) if found else not json_safe(given_)


def json_safe(value: object) -> bool:
    """Whether Python's literals and JSON both have it: no `nan` and no `inf`."""
    return not re.search(r"\b(NaN|Infinity)\b", re.sub(r'"(\\.|[^"\\])*"', "", json.dumps(value)))


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ("a: int = Field(..., example=1)\n    b: str = Field(examples=['x', 'y'])", {"a": 1, "b": "x"}),
        ("a: Annotated[int, Field(examples=[0])]\n    b: int = 3", {"a": 0}),
        ("a: dict = Field(json_schema_extra={'example': {'k': [1]}}, alias='A-1')", {"A-1": {"k": [1]}}),
        ("a: int = Field(example=1)\n    b: str", None),
        ("a: int = Field(examples=[])", None),
        ("a: int = Field(example=DEFAULT)", None),
        ("a: bytes = Field(example=b'x')", None),
        ("a: float = Field(example=1e999)", None),
        ("a: int\n    model_config = {'json_schema_extra': {'example': {'b': 1}}}", None),
        ("b: int = 3", None),
    ],
)
def test_the_examples_of_fields_are_a_request_if_none_is_missing(fields: str, request_: object) -> None:
    found = example_of("M", request_models(ast.parse(f"class M(BaseModel):\n    {fields}\n").body))
    assert (json.loads(found) if found else None) == request_


INNER = "class A(BaseModel):\n    a: int = Field(examples=[1])\n    b: float = 2\nclass N(BaseModel):\n    n: str\n"


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ("x: A", {"x": {"a": 1}}),
        ("x: list[A]\n    y: 'str' = Field(example='k')", {"x": [{"a": 1}], "y": "k"}),
        ("x: Optional[List[A]] = Field(..., alias='X')", {"X": [{"a": 1}]}),
        ("x: Annotated[list[A], Field(min_length=1)]", {"x": [{"a": 1}]}),
        ("x: conlist(A, min_length=1)", {"x": [{"a": 1}]}),
        ("x: A = Field(example={'a': 3})", {"x": {"a": 3}}),
        ("x: A | None = None\n    y: int = Field(example=4)", {"y": 4}),
        ("x: N", None),
        ("x: A | N", None),
        ("x: dict[str, A]", None),
        ("x: list[int]", None),
        ("x: list[list[A]]", None),
        ("x: M", None),  # a model in itself
    ],
)
def test_the_examples_of_models_in_fields_are_part_of_a_request(fields: str, request_: object) -> None:
    found = example_of("M", request_models(ast.parse(f"{INNER}class M(BaseModel):\n    {fields}\n").body))
    assert (json.loads(found) if found else None) == request_


def test_an_example_of_models_in_many_models_is_not_made_up() -> None:
    models = "".join(f"class M{at}(BaseModel):\n    a: M{at + 1}\n    b: M{at + 1}\n" for at in range(99))
    models += "class M99(BaseModel):\n    a: int = Field(example=1)\n"
    assert example_of("M0", request_models(ast.parse(models).body)) == ""


def test_an_example_is_the_sample_unless_more_is_sent(tmp_path: Path) -> None:
    model = "class M(BaseModel):\n    text: str = Field(examples=['hi'])\n"
    code = f"from fastapi import FastAPI\napp = FastAPI()\n{model}@app.post('/predict')\ndef predict(m: M{{}}): ...\n"
    planned = scaffold(detect(write(tmp_path, {"app.py": code.format("")})))
    (sample,) = (file for file in planned.files if file.path == "sample.json")
    assert (json.loads(sample.text), sample.why) == ({"text": "hi"}, "the example in your code")
    assert "sample: sample.json" in planned.files[0].text
    assert not any("valid request" in step for step in planned.todo)
    writes = {
        ", k: int = Query(...)": False,
        ", k: int = Body(...)": False,
        ", o: Other": False,
        ", tasks: BackgroundTasks, response: Response": True,
    }
    for more, written in writes.items():
        planned = scaffold(detect(write(tmp_path, {"app.py": code.format(more)})))
        assert any(file.path == "sample.json" for file in planned.files) == written
    write(tmp_path, {"app.py": code.format(""), "sample.json": '{"other": 1}'})
    planned = scaffold(detect(tmp_path))
    assert any("Write a valid request, a JSON object with text" in step for step in planned.todo)


def test_a_form_that_is_read_by_names_in_variables() -> None:
    text = "def predict():\n    for name in NAMES:\n        x = request.form.get(name)\n"
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert read_handler(function, "/predict").reads("form")
