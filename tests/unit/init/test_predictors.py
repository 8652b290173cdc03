"""cog.yaml's predictor: its inputs, and the loader that is written for it."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.init.detect import detect
from mlship.init.generated import SERVER_NEEDS
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from tests.helpers.repos import write
from tests.helpers.sampling import examples

COG = "build:\n  python_version: '3.11'\npredict: predict.py:Predictor\n"
HEAD = "from cog import BasePredictor, Input, Path\nclass Predictor(BasePredictor):\n"
PREDICTOR = f"""{HEAD}
    def setup(self):
        self.model = (Path(__file__).parent / "m.onnx").name
    def predict(self, image: Path = Input(description="x"), times: int = Input(default=2), tag: str = "t") -> Path:
        out = image.with_suffix(".txt")
        out.write_text(self.model + image.read_text() * times + tag)
        return out
"""
# What the class needs of the package `cog`, in all its releases.
FAKE_COG = (
    "import pathlib\nclass BasePredictor: pass\nPath = type('Path', (type(pathlib.Path()),), {})\n"
    "class Input:\n    def __init__(self, default=None, **other): self.default = default\n"
)
TYPES = {"Path": True, "list[Path]": True, "Optional[Path]": True, "int": False, "str": False}
DEFAULTS = {"": True, "Input()": True, "Input(description='x')": True, "Input(...)": True, "None": False,
            "Input(default=None)": False, "Input(1, ge=0)": False, "2": False}  # fmt: skip
INPUT = st.tuples(st.sampled_from(sorted(TYPES)), st.sampled_from(sorted(DEFAULTS)))


def repository(repo: Path, code: str = PREDICTOR) -> Path:
    return write(repo, {"cog.yaml": COG, "predict.py": code, "m.onnx": b"", "utils.py": "def load(): return 1"})


def test_a_predictor_gets_a_loader_and_a_server(tmp_path: Path) -> None:
    planned = scaffold(detect(repository(tmp_path)))
    texts = {file.path: file.text for file in planned.files}
    assert texts["requirements.in"].split()[-len(SERVER_NEEDS) - 1 :] == ["cog", *SERVER_NEEDS]
    assert "source: [m.onnx, predict.py, serving]" in texts["mlship.yaml"]
    assert len(planned.todo) == 1
    assert "a JSON object with image," in planned.todo[0]
    assert "base64" in planned.todo[0]
    write_scaffold(tmp_path, planned.files)
    again = keep_existing(scaffold(detect(tmp_path)), tmp_path)
    assert (again.files, again.completed) == ((), None)


@pytest.mark.slow
def test_the_loader_keeps_the_names_of_an_outputs_fields(tmp_path: Path) -> None:
    """cog.BaseModel is iterable, as in pydantic."""
    code = f"""{HEAD}
    def predict(self, n: int) -> object:
        return (Output() for _ in range(n))

class Output:
    def __init__(self):
        self.score = 1
    def __iter__(self):
        yield from vars(self).items()
"""
    files = {file.path: file.text for file in scaffold(detect(repository(tmp_path, code))).files}
    write(tmp_path, {"cog.py": FAKE_COG, **files})
    call = "from serving import model\nprint(model.load().predict({'n': 2}))"
    ran = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == "[{'score': 1}, {'score': 1}]\n", ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"image": "data:text/plain;base64,YQ==", "times": 3}, "m.onnxaaat"),
        ({"image": "data:text/plain;base64,YQ==", "tag": "!"}, "m.onnxaa!"),
        ({"image": "/etc/passwd"}, None),
        ({"image": "data:,a", "unknown": 1}, None),
        ({}, None),
    ],
)
def test_the_loader_handles_files_and_defaults(tmp_path: Path, request_: dict[str, object], answer: str | None) -> None:
    files = {file.path: file.text for file in scaffold(detect(repository(tmp_path))).files}
    write(tmp_path, {"cog.py": FAKE_COG, **files})
    call = f"import json; from serving import model\nprint(json.dumps(model.load().predict({request_!r})))"
    ran = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=False)
    if answer is None:
        assert "InvalidRequest: $: expected" in ran.stderr
    else:
        assert base64.b64decode(json.loads(ran.stdout).removeprefix("data:text/plain;base64,")).decode() == answer


@given(st.lists(INPUT, max_size=4), st.sampled_from(["predict", "run"]))
@settings(max_examples=examples(30), deadline=None)
def test_inputs_are_read_as_cog_does(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[tuple[str, str]], method: str
) -> None:
    inputs.sort(key=lambda one: one[1] != "")  # Python's rule: defaults come last
    named = [(f"x{number}", kind, default) for number, (kind, default) in enumerate(inputs)]
    arguments = "".join(f", {name}: {kind}" + (f" = {default}" if default else "") for name, kind, default in named)
    repo = repository(tmp_path_factory.mktemp("cog"), f"{HEAD}    def {method}(self{arguments}): pass\n")
    found = detect(repo).cog
    assert found
    assert found.method == method
    assert found.required == tuple(name for name, _, default in named if DEFAULTS[default])
    assert found.files == tuple(name for name, kind, _ in named if TYPES[kind])
    model = next(file for file in scaffold(detect(repo)).files if file.path == "serving/model.py")
    compile(model.text, "model.py", "exec")


@pytest.mark.parametrize(
    "code",
    [
        "def predict(x): return x",
        f"{HEAD}    async def predict(self, x: str): pass",
        f"{HEAD}    def predict(self, **inputs): pass",
        f"{HEAD}    def predict(self, x: File): pass",
        "class Predictor(",
    ],
)
def test_other_predictors_are_left_to_the_user(tmp_path: Path, code: str) -> None:
    write(tmp_path, {"cog.yaml": COG, "predict.py": code})
    found = detect(tmp_path)
    assert found.cog is None
    assert any("`predict.py:Predictor` (cog.yaml) runs the model" in note for note in found.notes)
