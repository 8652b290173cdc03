"""The open lines of `smoke.request`: method, path and what the function reads."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.todo import request_lines
from tests.helpers.repos import write

MODEL = "class M(BaseModel):\n    a: int\n"


@pytest.mark.parametrize(
    ("decorator", "arguments", "lines"),
    [
        ("app.post('/predict')", "text: str", ("method: POST", "path: /predict", "query: {text: VALUE}")),
        ("app.get('/predict')", "text: str", ("method: GET", "path: /predict", "query: {text: VALUE}")),
        ("app.post('/predict')", "m: M", ()),
        ("app.post('/predict')", "m: M, lang: str = Query('en')", ()),
        ("app.post('/predict')", "m: M, lang: Annotated[str, Query()] = 'en'", ()),
        (
            "app.post('/predict')",
            "m: M, lang: str = Query(...)",
            ("method: POST", "path: /predict", "query: {lang: VALUE}", "body: FILE"),
        ),
        (
            "app.post('/predict')",
            "image: UploadFile, n: int = Form(...)",
            ("method: POST", "path: /predict", "form: {n: VALUE}", "files: {image: FILE}"),
        ),
    ],
)
def test_a_request_has_what_the_function_requires(
    tmp_path: Path, decorator: str, arguments: str, lines: tuple[str, ...]
) -> None:
    code = f"app = FastAPI()\n{MODEL}@{decorator}\ndef predict({arguments}): ...\n"
    server = detect(write(tmp_path, {"app.py": code})).server
    assert server
    assert request_lines(server.routes) == lines
