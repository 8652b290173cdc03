"""Downloads at start: named for what a call stands for, and not for local files."""

import ast
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.downloads import download_rows, find_downloads
from mlship.init.scaffold import scaffold
from tests.helpers.repos import safetensors, write

APP = "from fastapi import FastAPI\n{0}\napp = FastAPI()\n@app.post('/predict')\ndef predict(x: int): return x\n"


def titles(code: str) -> list[str]:
    return [one.title for one in find_downloads(tuple(ast.walk(ast.parse(code))))]


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("import torch\ntorch.hub.load('pytorch/vision', 'resnet18')", "torch.hub"),
        ("from torch import hub as h\nh.load_state_dict_from_url(url)", "torch.hub"),
        ("from torchvision import models\nmodels.resnet18(pretrained=True)", "torchvision"),
        ("from torchvision.models import resnet18\nresnet18(weights=W.DEFAULT)", "torchvision"),
        ("import torchvision\ntorchvision.models.detection.fasterrcnn(weights='DEFAULT')", "torchvision"),
        ("import timm\ntimm.create_model('x', pretrained=True)", "timm"),
        ("from tensorflow.keras.applications import VGG16\nVGG16()", "Keras Applications"),
        ("import whisper\nwhisper.load_model('base')", "openai-whisper"),
        ("import mlflow\nmlflow.pyfunc.load_model('models:/m/1')", "MLflow"),
        ("import bentoml\nbentoml.onnx.get('yolo:latest').to_runner()", "BentoML's model store"),
        ("import mlflow\nmlflow.xgboost.load_model(model_uri='runs:/1/m')", "MLflow"),
        ("import mlflow.pyfunc\nuri = f'models:/{name}/{v}'\nmlflow.pyfunc.load_model(uri)", "MLflow"),
        ("from mlflow import sklearn as s\ns.load_model(os.getenv('URI', 'models:/m/1'))", "MLflow"),
        ("from urllib.request import urlretrieve\nurlretrieve('https://x.org/m.pt', 'm.pt')", "an address"),
    ],
)
def test_a_download_is_named(code: str, title: str) -> None:
    assert titles(code) == [title]


@pytest.mark.parametrize(
    "code",
    [
        "import bentoml\nbentoml.server_config.get('x')",
        "import torch\ntorch.hub.load('./yolov5', 'custom', source='local')",
        "import torch\ntorch.hub.load(folder, 'custom', source='local')",
        "from torchvision import models\nmodels.resnet18()",
        "from torchvision import models\nmodels.resnet18(pretrained=False)",
        "from torchvision import models\nmodels.resnet18(weights=None)",
        "import timm\ntimm.create_model('x')",
        "from keras.applications import VGG16\nVGG16(weights=None)",
        "import whisper\nwhisper.load_model('models/small.pt')",
        "import mlflow\nmlflow.pyfunc.load_model('model')",
        "import mlflow\nmlflow.pyfunc.load_model(path)",
        "import mlflow\nmlflow.pyfunc.load_model(f'{folder}/models:/m')",
        "import mlflow\nmlflow.pyfunc.load_model()",
        "from hub import load\nload('x')",
        "torch.hub.load('x')",
    ],
)
def test_what_is_local_or_something_else_is_no_download(code: str) -> None:
    assert titles(code) == []


def test_every_row_has_a_source_and_no_call_is_in_two() -> None:
    calls = [call for row in download_rows() for call in row.calls]
    assert len(calls) == len(set(calls))
    assert all(row.source.startswith("https://") for row in download_rows())


def test_what_an_image_lacks_is_a_step(tmp_path: Path) -> None:
    code = "import torch, joblib\na = torch.hub.load('x/y', 'z')\nb = joblib.load('/mnt/models/m.pkl')\n"
    found = detect(write(tmp_path, {"main.py": APP.format(code)}))
    steps = scaffold(found).todo
    assert any("torch.hub (main.py, line 3)" in step for step in steps)
    assert any(step.startswith("Load `/mnt/models/m.pkl` (main.py, line 4) by a path in the repo") for step in steps)


def test_a_file_that_is_elsewhere_than_the_code_loads_it_is_a_step(tmp_path: Path) -> None:
    place = "os.path.join(os.path.dirname(os.path.abspath(__file__)), 'm.safetensors')"
    code = f"import os, joblib\nm = joblib.load({place})\n"
    files: dict[str, str | bytes] = {"svc/app.py": APP.format(code), "out/m.safetensors": safetensors()}
    step = "Move `out/m.safetensors` to `svc/m.safetensors`, where the code loads it (svc/app.py, line 3)"
    assert any(one.startswith(step) for one in scaffold(detect(write(tmp_path, files))).todo)
    write(tmp_path, {"svc/m.safetensors": safetensors()})
    assert not any(one.startswith("Move") for one in scaffold(detect(tmp_path)).todo)


def test_a_file_that_is_in_several_other_folders_is_not_chosen_for_the_user(tmp_path: Path) -> None:
    code = "import joblib\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
    code += "m, n = joblib.load(HERE / 'a/m.safetensors'), joblib.load(HERE / 'b/m.safetensors')\n"
    models: dict[str, str | bytes] = {f"out/{name}/m.safetensors": safetensors() for name in "ac"}
    steps = "\n".join(scaffold(detect(write(tmp_path, {"svc/app.py": APP.format(code), **models}))).todo)
    assert "Move `out/a/m.safetensors` to `svc/a/m.safetensors`" in steps
    assert "Move `out/a/m.safetensors` or `out/c/m.safetensors` to `svc/b/m.safetensors`" in steps


def test_each_download_is_said_once(tmp_path: Path) -> None:
    code = "import torch\nfrom transformers import AutoModel\n"
    code += "a = torch.hub.load('x/y', 'a')\nb = torch.hub.load('x/z', 'b')\nc = torch.hub.load('x/y', 'c')\n"
    code += "d = AutoModel.from_pretrained(s.D)\ne = AutoModel.from_pretrained(s.E)\n"
    code += "f = AutoModel.from_pretrained('o/f')\nF = AutoModel.from_pretrained('o/f')\n"
    steps = "\n".join(scaffold(detect(write(tmp_path, {"main.py": APP.format(code)}))).todo)
    assert "torch.hub (main.py, line 4), torch.hub (main.py, line 5)." in steps
    elsewhere = "a model that the call does not name (main.py, line {})"
    assert f"{elsewhere.format(7)}, {elsewhere.format(8)}, `o/f` (main.py, line 9)." in steps


def test_a_model_whose_name_is_computed_is_unknown_unless_there_are_model_files(tmp_path: Path) -> None:
    code = "from transformers import AutoModel\nm = AutoModel.from_pretrained(settings.NAME)\n"
    write(tmp_path, {"main.py": APP.format(code)})
    assert any(
        "a model that the call does not name (main.py, line 3)" in one for one in scaffold(detect(tmp_path)).todo
    )
    write(tmp_path, {"net/model.safetensors": safetensors()})
    assert not any("does not name" in one for one in scaffold(detect(tmp_path)).todo)


def test_a_folder_that_the_code_names_has_its_settings_but_no_training_state(tmp_path: Path) -> None:
    code = "from transformers import AutoModel\nmodel = AutoModel.from_pretrained('net/lora')\n"
    names = ("adapter_config.json", "tokenizer.json", "spiece.model", "vocab.txt")
    texts: dict[str, str | bytes] = {f"net/lora/{name}": "{}" for name in names}
    more: dict[str, str | bytes] = {"net/lora/README.md": "x", "net/lora/optimizer.pt": b"\x80\x04N."}
    files = {"main.py": APP.format(code), "net/lora/adapter_model.safetensors": safetensors(), **texts, **more}
    found = detect(write(tmp_path, files))
    assert found.weights.named == tuple(sorted((*texts, "net/lora/adapter_model.safetensors")))


def test_the_changes_of_an_adapter_are_not_loaded_alone(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a/model.safetensors": safetensors(), "train.py": "import torch\n"}
    assert any("load_state_dict" in step for step in scaffold(detect(write(tmp_path, files))).todo)
    write(tmp_path, {"a/adapter_config.json": "{}"})
    assert not any("load_state_dict" in step for step in scaffold(detect(tmp_path)).todo)
