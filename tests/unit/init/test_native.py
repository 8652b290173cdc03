"""Model files that need no code: the loader, its packages and a request that fits."""

import json
import zipfile
from pathlib import Path

import pytest

from mlship.frameworks import framework_table
from mlship.init.detect import detect
from mlship.init.request_type import RequestType
from mlship.init.scaffold import scaffold
from mlship.project.formats import identify
from mlship.project.load import parse_config
from tests.helpers.repos import onnx_bytes, safetensors, write

MODELS = Path(__file__).parents[2] / "fixtures/models"
BERT = {"architectures": ["BertForSequenceClassification"]}
REQUEST = {"instances": [[0.0, 0.0, 0.0, 0.0]]}


def files_for(repo: Path) -> dict[str, str]:
    return {file.path: file.text for file in scaffold(detect(repo)).files}


@pytest.mark.parametrize(
    ("name", "kind", "package", "request_"),
    [
        ("model.ubj", "xgboost", "xgboost-cpu", REQUEST),
        ("model.txt", "lightgbm", "lightgbm", REQUEST),
        ("model.cbm", "catboost", "catboost", None),
        ("model.skops", "skops", "skops", REQUEST),
        ("model.keras", "keras", "jax", REQUEST),
    ],
)
def test_a_native_model_gets_a_loader(tmp_path: Path, name: str, kind: str, package: str, request_: object) -> None:
    content = (MODELS / name).read_bytes()
    assert identify(MODELS / name) == kind
    write(tmp_path, {f"weights/{name}": content})
    files = files_for(tmp_path)
    assert f'ROOT / "weights/{name}"' in files["serving/model.py"]
    compile(files["serving/model.py"], "model.py", "exec")
    assert package in files["requirements.in"].split()
    assert (json.loads(files["sample.json"]) if request_ else files.get("sample.json")) == request_
    if request_:
        assert parse_config(files["mlship.yaml"]).model.load == "serving.model:load"
    else:
        assert "a JSON object with instances" in "".join(scaffold(detect(tmp_path)).todo)


def test_the_users_package_comes_before_the_smaller_one(tmp_path: Path) -> None:
    write(tmp_path, {"m.ubj": (MODELS / "model.ubj").read_bytes(), "pyproject.toml": PROJECT.format("xgboost>=2")})
    assert "xgboost-cpu" not in files_for(tmp_path)["requirements.in"]
    write(tmp_path, {"m.ubj": (MODELS / "model.keras").read_bytes(), "pyproject.toml": PROJECT.format("tensorflow")})
    assert 'setdefault("KERAS_BACKEND", "tensorflow")' in files_for(tmp_path)["serving/model.py"]


PROJECT = '[project]\nname = "p"\nversion = "1"\ndependencies = ["{}"]\n'


@pytest.mark.parametrize("folder", ["", "models/bert/"])
def test_a_transformers_folder_is_the_weights(tmp_path: Path, folder: str) -> None:
    names = {"config.json": json.dumps(BERT), "tokenizer.json": "{}", "README.md": "hi", "vocab.txt": "a\n"}
    write(tmp_path, {f"{folder}{name}": text for name, text in names.items()})
    write(tmp_path, {f"{folder}model.safetensors": safetensors(), f"{folder}onnx/model.onnx": onnx_bytes()})
    found = detect(tmp_path)
    expected = ("models/bert",) if folder else ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt")
    assert found.weights.named == expected
    files = files_for(tmp_path)
    assert 'pipeline("text-classification", model=str(path), device="cpu")' in files["serving/model.py"].replace(
        "DEVICE)", '"cpu")'
    )
    compile(files["serving/model.py"], "model.py", "exec")
    assert {"torch", "transformers"} <= {*files["requirements.in"].split()}
    assert parse_config(files["mlship.yaml"]).model.weights == expected


def test_an_unknown_architecture_or_a_missing_tokenizer_gets_lines_to_start_from(tmp_path: Path) -> None:
    write(tmp_path, {"m/config.json": '{"architectures": ["MyNet"]}', "m/model.safetensors": safetensors()})
    found = detect(tmp_path)
    assert found.native is None
    todo = "\n".join(scaffold(found).todo)
    assert 'load_file("m/model.safetensors")' in todo
    assert "\n       def load():\n" in todo


@pytest.mark.parametrize("kind", [kind for kind, row in framework_table().formats.items() if row.example])
def test_each_example_of_a_loader_is_python(kind: str) -> None:
    code = framework_table().formats[kind].example.format(path="m.bin", folder="m")
    compile(code, kind, "exec")
    assert "def load():" in code
    assert "m.bin" in code or '"m"' in code
    assert len(code.strip().splitlines()) <= 8


def test_every_loader_has_a_template_that_is_python(tmp_path: Path) -> None:
    from mlship.render import render

    for name, row in framework_table().loaders.items():
        for gpu, workers in ((False, True), (True, False)):
            text = render(
                f"init/models/{row.template}.py.j2",
                model="m",
                title=row.title,
                loader=name,
                task=next(iter(row.tasks.values()), None),
                backend="jax",
                gpu=gpu,
                sample="sample.json",
                request=RequestType(None),
                package="serving",
                workers=workers,
                texts=gpu,
                batches=workers,
            )
            compile(text, name, "exec")


def test_a_damaged_model_gets_no_loader(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "[1")
        archive.writestr("metadata.json", "{}")
    assert detect(tmp_path).native is None


def test_code_that_the_written_loader_does_not_import_is_not_shipped(tmp_path: Path) -> None:
    write(tmp_path, {"m.onnx": onnx_bytes(), "utils.py": "import torch\nDLL = 'lib/x.dll'\n", "lib/x.dll": b"MZ"})
    files = files_for(tmp_path)
    assert parse_config(files["mlship.yaml"]).source == ("serving",)
    assert "torch" not in files["requirements.in"]
