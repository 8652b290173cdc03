"""The smoke test on a real GPU: a real onnxruntime in a real image, on CUDA and fallen back from it."""

from collections.abc import Iterator

import pytest

from mlship.engine.base import Engine
from mlship.smoke.result import SmokeReport
from mlship.smoke.run import Bench, smoke
from mlship.smoke.spec import SmokeSpec
from tests.helpers.smoke_images import built, quiet
from tests.helpers.toy import SERVER

pytestmark = pytest.mark.docker

MODEL = '''\
"""A matrix product that takes long enough to be worth a GPU."""
import os

import numpy
import onnxruntime
from onnx import TensorProto, helper

if os.environ.get("PRELOAD"):
    onnxruntime.preload_dlls()
SIZE = 1024
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in "xy")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", [x], [y])
MADE = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def load():
    providers = os.environ["PROVIDERS"].split(",")
    session = onnxruntime.InferenceSession(MADE.SerializeToString(), providers=providers)

    def predict(payload):
        value = numpy.full((SIZE, SIZE), sum(payload["x"]), "float32")
        return [float(session.run(None, {"x": value})[0].mean())]

    return predict
'''
# CUDA 12 runs on every driver from 525 on; from 1.27 on the package is for CUDA 13.
DOCKERFILE = """\
FROM BASE
RUN pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]<1.27" onnx
WORKDIR /app
COPY model.py server.py sample.json ./
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1001:1001
CMD ["python", "server.py"]
"""
SPEC = SmokeSpec(
    load="model:load",
    weights=(),
    sample="sample.json",
    golden=None,
    rtol=1e-3,
    atol=1e-5,
    output_shape=None,
    port=8080,
    live="/health/live",
    ready="/health/ready",
    predict="/predict",
    startup_seconds=120,
    grace_seconds=10,
    load_seconds=120,
    memory=8 << 30,
    gpu=True,
)


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gpu")
    for name, text in {"model.py": MODEL, "server.py": SERVER, "sample.json": '{"x": [1.0]}'}.items():
        (folder / name).write_text(text)
    with built(engine, folder, DOCKERFILE) as tag:
        yield tag


def run(engine: Engine, image: str, **env: str) -> SmokeReport:
    return smoke(Bench(engine, image, SPEC, quiet, device="gpu", env=env))


def test_cuda_is_proven(engine: Engine, image: str) -> None:
    report = run(engine, image, PRELOAD="1", PROVIDERS="CUDAExecutionProvider,CPUExecutionProvider")
    assert report.passed, report.failure
    assert (report.device, report.simulated) == ("gpu", False)
    assert report.gpus
    used = next(check for check in report.checks if check.id == "gpu.used")
    assert used.status == "pass", used
    assert "CUDAExecutionProvider" in used.seen


@pytest.mark.parametrize(
    ("env", "remedy"),
    [
        ({"PROVIDERS": "CPUExecutionProvider", "PRELOAD": "1"}, "providers=['CUDAExecutionProvider']"),
        ({"PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider"}, "preload_dlls"),
    ],
)
def test_a_fall_back_is_found(engine: Engine, image: str, env: dict[str, str], remedy: str) -> None:
    bad = run(engine, image, **env).failure
    assert bad is not None
    assert bad.id == "gpu.used"
    assert remedy in bad.remedy
