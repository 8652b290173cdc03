"""What a route's function reads of a request, in the ways that Flask and FastAPI offer."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.init.handlers import Handler, form_fields, model_fields, read_handler


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
    ],
)
def test_what_fastapi_declares(arguments: str, expected: Handler) -> None:
    assert handler("pass", arguments, "/predict/{name}") == expected


def test_models_and_pages_name_the_fields() -> None:
    models = model_fields(ast.parse("class Flower(BaseModel):\n    a: float\n    b: int = 3\nclass X: pass\n").body)
    assert models == {"Flower": ("a",)}
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
    assert model_fields(ast.parse(f"class A(BaseModel):\n{lines}").body) == {"A": ("a", "b", "c", "d")}


def test_a_form_that_is_read_by_names_in_variables() -> None:
    text = "def predict():\n    for name in NAMES:\n        x = request.form.get(name)\n"
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert read_handler(function, "/predict").reads("form")
