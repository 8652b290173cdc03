"""The open lines of `smoke.request`: method, path and what the function reads."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from mlship.init.todo import request_lines
from tests.helpers.model_files import zipped
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


@pytest.mark.parametrize(
    ("uses", "converts"),
    [
        (("collections.OrderedDict", "torch.FloatStorage", "torch._utils._rebuild_tensor_v2"), True),
        (("torch.storage.UntypedStorage", "torch._utils._rebuild_parameter"), True),
        (("collections.OrderedDict", "__torch__.Net"), False),
        (("torch._utils._rebuild_tensor_v2", "net.Net"), False),
        (("torch.nn.modules.linear.Linear",), False),
    ],
)
def test_only_a_file_of_tensors_is_to_be_converted(tmp_path: Path, uses: tuple[str, ...], converts: bool) -> None:
    names = ("\n".join(one.rsplit(".", 1)) for one in uses)
    pickled = b"\x80\x02" + b"".join(f"c{name}\n0".encode() for name in names)
    files: dict[str, str | bytes] = {"m.pt": zipped({"m/data.pkl": pickled + b"N.", "m/data/0": b"\0" * 8})}
    steps = "\n".join(scaffold(detect(write(tmp_path, files))).todo)
    assert "Convert `m.pt`" in steps
    assert ("mlship convert m.pt m.safetensors" in steps) == converts


@pytest.mark.parametrize(
    ("uses", "converts"),
    [
        (("sklearn.linear_model._logistic.LogisticRegression", "numpy.ndarray", "joblib.numpy_pickle.X"), True),
        (("xgboost.sklearn.XGBClassifier", "sklearn.preprocessing._label.LabelEncoder"), False),
        (("sklearn.pipeline.Pipeline", "lightgbm.sklearn.LGBMClassifier"), False),
        (("sklearn.pipeline.Pipeline", "steps.Cleaner"), False),
    ],
)
def test_only_estimators_of_scikit_learn_are_to_be_converted(
    tmp_path: Path, uses: tuple[str, ...], converts: bool
) -> None:
    names = ("\n".join(one.rsplit(".", 1)) for one in uses)
    version = b"U\x10_sklearn_versionU\x051.4.20"
    pickled = b"\x80\x02" + b"".join(f"c{name}\n0".encode() for name in names) + version + b"N."
    files: dict[str, str | bytes] = {"m.pkl": pickled, "load.py": "import pickle\npickle.load(open('m.pkl', 'rb'))\n"}
    steps = "\n".join(scaffold(detect(write(tmp_path, files))).todo)
    assert "Convert `m.pkl`" in steps
    assert ("mlship convert m.pkl m.onnx" in steps) == converts
