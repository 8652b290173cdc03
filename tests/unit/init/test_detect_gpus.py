"""Which repositories are for GPUs: each kind of evidence, and what looks like it and is none."""

import json
from pathlib import Path

import pytest
import yaml

from mlship.init.detect import detect
from mlship.init.found import GpuUse
from mlship.init.scaffold import scaffold
from mlship.project.load import parse_config
from tests.helpers.repos import onnx_bytes, write

HOST = json.dumps({"name": "t4", "driver": "535.183.01", "gpus": [{"name": "Tesla T4", "capability": "7.5"}]})
TODO = "Record the target hosts"
Files = dict[str, str | bytes]


def served(body: str) -> Files:
    """A loader with something in it."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return {"model.py": f"import torch\nimport onnxruntime as ort\n\ndef load():\n{lines}    return net\n"}


def found(repo: Path, files: Files) -> GpuUse:
    return detect(write(repo, files)).gpus


@pytest.mark.parametrize(
    ("files", "evidence"),
    [
        pytest.param({"hosts/t4.json": HOST}, "hosts/ has 1 host file", id="hosts"),
        pytest.param({"hosts/t4.json": HOST, "hosts/b.json": HOST}, "hosts/ has 2 host files", id="two hosts"),
        ({"requirements.txt": "numpy\nonnxruntime-gpu[cuda,cudnn]>=1.22"}, "requirements.txt requires onnxruntime-gpu"),
        ({"requirements.in": "cupy-cuda12x\nflash_attn==2.8\n"}, "requirements.in requires cupy-cuda12x, flash-attn"),
        ({"requirements.in": "jax[cuda12]"}, "requirements.in requires jax[cuda12]"),
        ({"requirements.in": "tensorflow[and-cuda]>=2.20"}, "requirements.in requires tensorflow[and-cuda]"),
        ({"requirements.in": "torch==2.9.1+cu126"}, "requirements.in requires torch built for CUDA (+cu126)"),
        ({"pyproject.toml": "[project]\ndependencies = ['vllm', 'tensorrt-cu13']"},
         "pyproject.toml requires tensorrt-cu13, vllm"),
        ({"environment.yml": "dependencies: [pytorch, nvidia::pytorch-cuda=12.4]"},
         "environment.yml requires pytorch-cuda"),
        ({"Dockerfile": "FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\n"},
         "the Dockerfile starts from nvidia/cuda:12.4.1-runtime-ubuntu22.04"),
        ({"Dockerfile": "FROM vllm/vllm-openai:v0.9\n"}, "the Dockerfile starts from vllm/vllm-openai:v0.9"),
        ({"Dockerfile": "FROM pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime\n"},
         "the Dockerfile starts from pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime"),
        ({"Dockerfile": "FROM runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel\n"},
         "the Dockerfile starts from runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel"),
        (served('net = Net().to("cuda")'), 'model.py uses to("cuda")'),
        (served("net = Net().cuda()"), "model.py uses .cuda()"),
        (served('net = pipeline(device="cuda:0")'), 'model.py uses device="cuda:0"'),
        (served('DEVICE = "cuda"\nnet = Net().to(DEVICE)'), 'model.py uses DEVICE = "cuda"'),
        ({"model.py": 'DEVICE = "cuda"\nFALLBACK = "cpu"\ndef load():\n    return Net().to(DEVICE)\n'},
         'model.py uses DEVICE = "cuda"'),
        (served('def inner(device="cuda"): ...\nnet = inner()'), 'model.py uses device="cuda"'),
        (served('net = ort.InferenceSession("m", providers=["CUDAExecutionProvider", "CPUExecutionProvider"])'),
         "model.py uses CUDAExecutionProvider"),
        (served('net = ort.InferenceSession("m", providers=[("CUDAExecutionProvider", {}), "CPUExecutionProvider"])'),
         "model.py uses CUDAExecutionProvider"),
        (served('assert torch.cuda.is_available()\nnet = Net().to("cuda")'), "model.py fails without a GPU"),
        (served("if not torch.cuda.is_available():\n    raise RuntimeError\nnet = Net()"),
         "model.py fails without a GPU"),
    ],
)  # fmt: skip
def test_it_is_for_gpus(tmp_path: Path, files: Files, evidence: str) -> None:
    assert found(tmp_path, files) == GpuUse((evidence,), tuple(sorted(f for f in files if f.startswith("hosts/"))))


@pytest.mark.parametrize(
    "code",
    [
        'def load(device="cpu"):\n    if device == "gpu":\n        assert torch.cuda.is_available()\n    return 1\n',
        "class Net:\n    def gpu(self):\n        if not torch.cuda.is_available():\n            raise Err\n",
        "def load():\n    return 1\ndef benchmark():\n    assert torch.cuda.is_available()\n",
    ],
)
def test_a_check_that_may_never_run_requires_no_gpu(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, {"model.py": f"import torch\n{code}"}).evidence == ()


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="nothing"),
        pytest.param(served("net = Net()"), id="no device"),
        pytest.param({"hosts/web.json": '{"hosts": ["a"]}', "hosts/x.json": "no JSON"}, id="other hosts"),
        pytest.param({"deploy/hosts/t4.json": HOST}, id="hosts elsewhere"),
        pytest.param({"requirements.txt": "torch\nonnxruntime\ntensorflow\njax\nfaiss-cpu\nxgboost"}, id="plain names"),
        pytest.param(  # `pip freeze` where PyPI's torch is installed
            {"requirements.txt": "torch==2.8.0\nnvidia-cublas-cu12==12.8.4.1\ntriton==3.4.0\ncuda-bindings==13.0.3"},
            id="what torch brings",
        ),
        pytest.param({"requirements.txt": "torch==2.13.0+cpu"}, id="the CPU's torch"),
        pytest.param({"requirements.txt": "jax[k8s]\ntensorflow[extra]"}, id="other extras"),
        pytest.param({"requirements-train.txt": "flash-attn"}, id="training"),
        pytest.param({"Dockerfile": "FROM nvidia/cuda:12.4.1-devel AS build\nFROM python:3.11-slim\n"}, id="builder"),
        pytest.param({"train.py": 'import torch\nnet.to("cuda")', **served("net = Net()")}, id="training code"),
        pytest.param(served('log("it runs on cuda")\nnet = Net()'), id="talk of cuda"),
        pytest.param(served('parser.add_argument("--d", choices=["cpu", "cuda"])\nnet = Net()'), id="choices"),
        pytest.param({"model.py": 'CPU = "cpu"\nGPU = "cuda"\ndef load(): return 1'}, id="constants"),
        pytest.param({"model.py": 'CPU = "cpu"\nGPU = "cuda"\ndef load(): return CPU'}, id="the other constant"),
        pytest.param(served('class On(Enum):\n    GPU = "cuda"\n    CPU = "cpu"\nnet = Net()'), id="enumeration"),
        pytest.param(served('net = ort.InferenceSession("m", providers=["CPUExecutionProvider"])'), id="CPU provider"),
        pytest.param(served("net = ort.InferenceSession('m', providers=ort.get_available_providers())"), id="any"),
    ],
)
def test_it_is_not(tmp_path: Path, files: Files) -> None:
    assert found(tmp_path, files) == GpuUse()


@pytest.mark.parametrize(
    "body",
    [
        'net = Net().to("cuda" if torch.cuda.is_available() else "cpu")',
        'net = Net()\nif torch.cuda.is_available():\n    net = net.to("cuda")',
        'net = Net().to("cuda" if on_gpu else "cpu")',
        'def inner(device="cuda"):\n    if device == "cuda": ...\nnet = inner("cpu")',
        'net = ["CUDAExecutionProvider"] if "CUDAExecutionProvider" in ort.get_available_providers() else []',
    ],
)
def test_a_gpu_where_there_is_one_decides_nothing_and_is_said(tmp_path: Path, body: str) -> None:
    gpus = found(tmp_path, served(body))
    assert not gpus.wanted
    assert gpus.note is not None
    assert gpus.note.startswith("model.py checks whether there is a GPU, so this is a CPU image")
    assert TODO not in "".join(scaffold(detect(tmp_path)).todo)


def test_the_same_code_with_hosts_is_for_gpus(tmp_path: Path) -> None:
    gpus = found(tmp_path, {"hosts/t4.json": HOST, **served('net = Net().to("cuda" if ok else "cpu")')})
    assert gpus.evidence == ("hosts/ has 1 host file",)


# --- What is written


def test_the_section_says_why_and_the_hosts_are_to_be_recorded(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": onnx_bytes(), "requirements.in": "onnxruntime-gpu[cuda,cudnn]\nnumpy\n"})
    planned = scaffold(detect(tmp_path))
    text = next(file.text for file in planned.files if file.path == "mlship.yaml")
    assert "# The model runs on NVIDIA GPUs: requirements.in requires onnxruntime-gpu.\n" in text
    config = parse_config(text)
    assert config.gpu is not None
    assert config.gpu.hosts == "hosts"
    assert any(step.startswith(TODO) for step in planned.todo)


def test_without_gpus_there_is_no_section(tmp_path: Path) -> None:
    planned = scaffold(detect(write(tmp_path, {"model.onnx": onnx_bytes()})))
    assert "gpu" not in yaml.safe_load(next(file.text for file in planned.files if file.path == "mlship.yaml"))
    assert 'PROVIDERS = ["CPUExecutionProvider"]' in loader(tmp_path)


def test_the_written_loader_asks_for_cuda_first_and_its_requirements_bring_it(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": onnx_bytes(), "hosts/t4.json": HOST})
    assert 'PROVIDERS = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]' in loader(tmp_path)
    planned = scaffold(detect(tmp_path))
    lines = next(file.text for file in planned.files if file.path == "requirements.in").splitlines()
    assert "onnxruntime-gpu[cuda,cudnn]" in lines
    assert "onnxruntime" not in lines


def test_two_onnxruntimes_are_never_asked_for(tmp_path: Path) -> None:
    """They overwrite each other, so the existing one is kept and reported."""
    write(tmp_path, {"model.onnx": onnx_bytes(), "hosts/t4.json": HOST, "requirements.txt": "onnxruntime\nnumpy\n"})
    planned = scaffold(detect(tmp_path))
    assert not any("onnxruntime-gpu" in file.text for file in planned.files if file.path.endswith(".in"))
    assert "Replace `onnxruntime`, which supports only the CPU, with `onnxruntime-gpu[cuda,cudnn]`." in planned.todo


def loader(repo: Path) -> str:
    return next(file.text for file in scaffold(detect(repo)).files if file.path == "serving/model.py")


@pytest.mark.parametrize(("code", "asked"), [("import onnxruntime", True), ("import torch", False)])
def test_onnxruntime_is_replaced_only_where_the_code_uses_it(tmp_path: Path, code: str, asked: bool) -> None:
    """Others require it, and a frozen environment has all that is installed."""
    files: Files = {
        "requirements.txt": "torch\nonnxruntime==1.20.1\nflash-attn\n",
        "model.py": f"{code}\ndef load(): ...",
    }
    todo = "".join(scaffold(detect(write(tmp_path, files))).todo)
    assert ("Replace `onnxruntime`" in todo) == asked


def test_a_switch_with_a_cpu_side_decides_nothing(tmp_path: Path) -> None:
    code = "if use_gpu:\n    p = [('CUDAExecutionProvider', {})]\nelse:\n    p = ['CPUExecutionProvider']\n"
    assert not found(tmp_path, {"app.py": f"import onnxruntime\ndef load(): ...\n{code}"}).wanted


def test_an_extra_in_a_lock_is_no_requirement(tmp_path: Path) -> None:
    project = "[project]\nname = 'x'\nversion = '1'\ndependencies = ['onnxruntime']\n"
    project += "[project.optional-dependencies]\ngpu = ['onnxruntime-gpu>=1.20']\n"
    rows = "".join(f'[[package]]\nname = "{name}"\nversion = "1.20"\n' for name in ("onnxruntime", "onnxruntime-gpu"))
    assert not found(tmp_path, {"pyproject.toml": project, "uv.lock": f"version = 1\n{rows}"}).wanted
