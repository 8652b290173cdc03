"""The GPU checks inside the model's process, on a simulated GPU host and with a real onnxruntime."""

import ast
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TypeAlias

import pytest

from mlship.driver import ask
from mlship.driver.answer import read_answer
from mlship.resources import read_package_file
from mlship.smoke.events import Begin, Done, Event, parse_event
from mlship.smoke.gpu_seen import FrameworkUse, GpuAfter, GpuBefore, cuda_seen
from mlship.smoke.inside import gpu as inside_gpu
from mlship.smoke.seen import first_of
from tests.helpers.patience import limit
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, H100_MIG_HOST, T4_HOST, Scenario

MIB = 1 << 20
Made: TypeAlias = Callable[[Scenario], SimHost]

CUDA = """\
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_ulonglong()
def load():
    for code in (cuda.cuInit(0), cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0),
                 cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64 << 20))):
        assert code == 0, code
    return lambda payload: [payload["x"]]
"""
CPU = "def load(): return lambda payload: [payload['x']]"


@pytest.fixture
def host(tmp_path: Path) -> Made:
    return lambda scenario: SimHost.make(scenario, tmp_path / "host")


def model(folder: Path, source: str, env: Mapping[str, str]) -> tuple[Event, ...]:
    """The events of the model program with GPU checks."""
    (folder / "model.py").write_text(source)
    (folder / "sample.json").write_text('{"x": 3}')
    options = {"load": "model:load", "load_seconds": 60, "sample": "sample.json", "golden": None, "weights": []}
    options["silent"] = ["json", "mlship_absent"]
    files = ("smoke/inside/program.py", "driver/device_code.py", "smoke/inside/gpu.py", "driver/ask.py")
    program, *texts = map(read_package_file, files)
    done = subprocess.run(
        [sys.executable, "-c", program, "model", json.dumps(options), *texts],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=limit(60),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert None not in events, done.stdout
    return tuple(event for event in events if event is not None)


def seen(events: tuple[Event, ...]) -> tuple[GpuBefore, GpuAfter]:
    before, after = first_of(GpuBefore, events), first_of(GpuAfter, events)
    assert before is not None
    assert after is not None
    return before, after


def test_it_is_valid_for_python_3_8_and_imports_only_the_standard_library() -> None:
    source = read_package_file("smoke/inside/gpu.py")
    tree = ast.parse(source, feature_version=(3, 8))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names
    assert len(source) < 100_000  # Linux limits an argument to 128 KiB


def test_gpu_use_of_a_model_is_seen_in_its_process(host: Made, tmp_path: Path) -> None:
    made = host(A100_HOST)
    events = model(tmp_path, CUDA, made.env())
    before, after = seen(events)
    assert [type(event) for event in events[:3]] == [Begin, GpuBefore, Done]
    assert (before.cuda.init, before.cuda.version, before.cuda.count, before.cuda.simulated) == (0, 12040, 2, True)
    assert (before.nvml.code, before.nvml.driver, before.nvml.simulated) == (0, "550.54.15", True)
    assert [(one.name, one.compute_capability) for one in before.nvml.devices] == [("NVIDIA A100-SXM4-40GB", "8.0")] * 2
    assert before.nvml.devices[0].processes == ()
    assert str(made.libraries / "libcuda.so.550.54.15") in after.libraries
    assert after.silent == ("json",)  # of the two modules that `model` names
    assert (after.cuda_version, after.simulated) == (12040, True)
    used = after.nvml.devices[0]
    assert [(one.pid, one.memory) for one in used.processes] == [(after.pid, 64 * MIB)]
    assert used.memory_used is not None
    assert before.nvml.devices[0].memory_used is not None
    assert used.memory_used - before.nvml.devices[0].memory_used == 64 * MIB
    assert after.nvml.devices[1].processes == ()


def test_the_check_itself_does_not_use_the_gpu(host: Made, tmp_path: Path) -> None:
    before, after = seen(model(tmp_path, CPU, host(A100_HOST).env()))
    assert before.cuda.init == 0
    assert (after.libraries, after.cuda_version) == ((), None)
    assert [device.processes for device in after.nvml.devices] == [(), ()]


def test_a_machine_without_a_gpu_is_reported_with_the_loaders_error(tmp_path: Path) -> None:
    before, after = seen(model(tmp_path, CPU, {}))
    if before.cuda.init is not None:
        pytest.skip("this machine has a libcuda")
    assert "libcuda.so.1" in (before.cuda.problem or "")
    assert "libnvidia-ml.so.1" in (before.nvml.problem or "")
    assert after.nvml.problem == before.nvml.problem


@pytest.mark.parametrize(
    ("fault", "init", "nvml"),
    [("return cuInit 803", 803, 0), ("return nvmlInitWithFlags 18", 0, 18), ("return nvmlDeviceGetCount_v2 17", 0, 17)],
)
def test_codes_are_kept(host: Made, tmp_path: Path, fault: str, init: int, nvml: int) -> None:
    before, _ = seen(model(tmp_path, CPU, host(T4_HOST.but(fault)).env()))
    assert (before.cuda.init, before.nvml.code) == (init, nvml)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("return nvmlDeviceGetComputeRunningProcesses_v3 4", "processes"),
        ("return nvmlDeviceGetMemoryInfo 3", "memory_used"),
        ("return nvmlDeviceGetHandleByIndex_v2 15", "handle"),
    ],
)
def test_an_nvml_error_is_recorded_for_its_device(host: Made, tmp_path: Path, fault: str, name: str) -> None:
    _, after = seen(model(tmp_path, CPU, host(T4_HOST.but(fault)).env()))
    assert after.nvml.devices[0].codes == {name: int(fault.rpartition(" ")[2])}


def test_a_crash_of_the_driver_does_not_affect_the_model(host: Made, tmp_path: Path) -> None:
    before, after = seen(model(tmp_path, CPU, host(T4_HOST.but("abort cuInit")).env()))
    assert before.cuda.problem == "cuInit crashed (SIGABRT)"
    assert before.nvml.code == 0
    assert after.libraries == ()


def test_the_check_does_not_wait_for_a_hanging_driver(host: Made) -> None:
    program = (
        "import json; from mlship.driver import ask; from mlship.smoke.inside import gpu; gpu.CHILD_SECONDS = 0.3; "
        "print(json.dumps(gpu.in_child(ask, 'cuda', '--brief')))"
    )
    env = {**os.environ, **host(T4_HOST.but("hang cuInit")).env()}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=limit(30), check=True
    )
    found = json.loads(done.stdout)
    assert found["signal"] is None
    assert cuda_seen(read_answer(found["lines"], timed_out=found["timed_out"])).problem == "cuInit does not return"


def test_a_mig_device_is_used(host: Made, tmp_path: Path) -> None:
    before, after = seen(model(tmp_path, CUDA, host(H100_MIG_HOST).env()))
    assert before.cuda.count == 1
    assert [one.memory for one in after.nvml.devices[0].processes] == [64 * MIB]


# Reports of the frameworks


ONNX = """\
import onnxruntime
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
def load():
    import numpy
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda payload: session.run(None, {"x": numpy.array([payload["x"]], "float32")})
"""


def test_onnxruntime_reports_the_providers_of_its_sessions(tmp_path: Path) -> None:
    _, after = seen(model(tmp_path, ONNX, {}))
    word = next(word for word in after.words if word.framework == "onnxruntime")
    assert word.problem is None
    assert word.uses == {"CPUExecutionProvider": 1}
    assert "CPUExecutionProvider" in word.offers
    assert not word.on_gpu


class Tensor:
    def __init__(self, device: str) -> None:
        self.device = device


class Module:
    """A module like TorchScript's, which creates its tensors on request."""

    def parameters(self) -> list[Tensor]:
        return [Tensor("cuda:0")]

    def buffers(self) -> list[Tensor]:
        return []


def torch(*, cuda: str | None = "12.4", started: bool = True) -> ModuleType:
    """A `torch` with the functions that the check calls."""
    found = ModuleType("torch")
    vars(found).update(
        __version__="2.6.0",
        Tensor=Tensor,
        nn=SimpleNamespace(Module=Module),
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_initialized=lambda: started,
            is_available=lambda: cuda is not None,
            memory_allocated=lambda: 5,
            max_memory_allocated=lambda: 7,
        ),
    )
    return found


def word(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType) -> FrameworkUse:
    monkeypatch.setitem(sys.modules, name, module)
    said = next(said for said in inside_gpu.words() if said["framework"] == name)
    event = {"event": "gpu_after", "pid": 1, "libraries": [], "cuda_version": None, "nvml": {}, "simulated": False}
    parsed = parse_event(json.dumps({**event, "silent": [], "words": [said]}))
    assert isinstance(parsed, GpuAfter)
    return parsed.words[0]


def test_torch_reports_the_devices_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [Tensor("cpu"), Tensor("cuda:1")], Module()
    said = word(monkeypatch, "torch", torch())
    assert said.uses == {"cpu": 1, "cuda:1": 1, "cuda:0": 1}
    assert (said.cuda, said.offers, said.memory, said.peak, said.on_gpu) == ("12.4", ("cuda",), 5, 7, True)
    assert kept


def test_a_cpu_build_of_torch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [Tensor("cpu")]
    said = word(monkeypatch, "torch", torch(cuda=None, started=False))
    assert (said.cuda, said.uses, said.offers, said.memory) == (None, {"cpu": 1}, (), 0)
    assert kept


def test_the_check_does_not_start_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    jax, bridge = ModuleType("jax"), ModuleType("jax._src.xla_bridge")
    array = SimpleNamespace(devices=lambda: [SimpleNamespace(platform="gpu", id=0)])
    vars(jax).update(__version__="0.10.2", live_arrays=lambda: [array])
    vars(bridge).update(_backends={})
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", bridge)
    assert word(monkeypatch, "jax", jax).uses == {}
    vars(bridge).update(_backends={"cuda": None})
    said = word(monkeypatch, "jax", jax)
    assert (said.uses, said.on_gpu) == ({"gpu:0": 1}, True)


def tensorflow(*, started: bool, memory: int) -> tuple[ModuleType, ModuleType]:
    module, context = ModuleType("tensorflow"), ModuleType("tensorflow.python.eager.context")
    vars(context).update(context=lambda: SimpleNamespace(_initialized=started))
    vars(module).update(
        __version__="2.21.0",
        sysconfig=SimpleNamespace(get_build_info=lambda: {"cuda_version": "12.5.1"}),
        config=SimpleNamespace(
            list_logical_devices=lambda _kind: [SimpleNamespace(name="/device:GPU:0")],
            experimental=SimpleNamespace(get_memory_info=lambda _name: {"current": memory, "peak": 9}),
        ),
    )
    return module, context


@pytest.mark.parametrize(
    ("started", "memory", "uses"),
    [(False, 0, {}), (True, 0, {"CPU": 1}), (True, 9, {"/device:GPU:0": 1})],
)
def test_tensorflow_reports_its_memory(
    monkeypatch: pytest.MonkeyPatch, started: bool, memory: int, uses: Mapping[str, int]
) -> None:
    module, context = tensorflow(started=started, memory=memory)
    monkeypatch.setitem(sys.modules, "tensorflow.python.eager.context", context)
    assert word(monkeypatch, "tensorflow", module).uses == uses


def test_cupy_reports_the_memory_of_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = ModuleType("cupy")
    pool = SimpleNamespace(total_bytes=lambda: 512)
    vars(cupy).update(__version__="14.0", get_default_memory_pool=lambda: pool)
    said = word(monkeypatch, "cupy", cupy)
    assert (said.memory, said.on_gpu) == (512, True)


def test_a_framework_without_a_report_has_a_reason_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("torch")
    vars(broken).update(__version__="9.9")
    cupy = ModuleType("cupy")
    vars(cupy).update(__version__="14.0", get_default_memory_pool=lambda: SimpleNamespace(total_bytes=lambda: 0))
    monkeypatch.setitem(sys.modules, "torch", broken)
    assert word(monkeypatch, "cupy", cupy).uses == {}
    assert (word(monkeypatch, "torch", broken).problem or "").startswith("AttributeError: ")


def test_the_structure_is_as_large_as_in_nvml() -> None:
    assert ctypes.sizeof(ask.NvmlProcess) == 24
