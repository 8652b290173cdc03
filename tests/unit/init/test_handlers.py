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
