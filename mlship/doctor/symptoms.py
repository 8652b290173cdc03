"""Visible failures, before their cause is known: error codes, missing GPUs, frameworks that run on the CPU.

A rule's `explains` names these ids. A symptom that no finding explains is listed as unexplained, and is a problem.
"""

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from typing import TypedDict, cast

from mlship.doctor.chain.link import Symptom
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaApi, Nvml, Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Decider, Where
from mlship.doctor.queries import driver_is_contained, gpu_is_known_absent, gpus, is_tegra, places
from mlship.driver import codes
from mlship.resources import read_package_file

# Codes of NVML calls on one device; others, such as 3 (not supported), are normal.
_DEVICE_FAILS = {4, 8, 9, 10, 11, 14, 15, 16, 17, 28, 999}
_CONTAINER_LACKS_NVML = 12
_NOT_FOUND = 404
_NO_PERMISSION = 4  # in MIG mode, only root may read figures of the whole GPU


class _Cases(TypedDict):
    symptom: str
    facts: list[dict[str, str]]


class _Known(TypedDict):
    messages: list[dict[str, str]]
    deciders: list[_Cases]


def symptoms(facts: Facts) -> tuple[Symptom, ...]:
    """Every symptom, once each. Empty if there is no NVIDIA GPU, so that nothing can be wrong with it."""
    if gpu_is_known_absent(facts):
        return ()
    of_places = (_of_place(facts, where, place) for where, place in places(facts))
    found = chain(*of_places, _of_image(facts), _of_messages(facts))
    first: dict[tuple[str, Where], Symptom] = {}
    for symptom in found:  # measured symptoms come before reported ones
        first.setdefault((symptom.id, symptom.where), symptom)
    return tuple(first.values())


def _of_place(facts: Facts, where: Where, place: Place) -> Iterator[Symptom]:
    yield from _nvml(facts, where, place)
    yield from _cuda(where, place)
    for environment in each(place.pythons):
        yield from _frameworks(where, environment)
        if known(place.cuda.init) == 0:
            yield from _compilers(where, environment)


def _nvml(facts: Facts, where: Where, place: Place) -> Iterator[Symptom]:
    yield from _silence("nvml", where, place.nvml)
    code = known(place.nvml.init)
    if code and not _is_ordinary(facts, where, place, code):
        yield Symptom(f"nvml.init={code}", where, f"nvmlInit returns {codes.nvml(code)}")
    if where == "host" and code == 0 and known(place.nvml.device_count) == 0 and gpus(facts):
        yield Symptom("nvml.count=0", where, f"NVML counts no GPU, but the PCI bus has {len(gpus(facts))}")
    for device in each(place.nvml.devices):
        for call, answer in sorted((known(device.codes) or {}).items()):
            if answer in _DEVICE_FAILS and not (answer == _NO_PERMISSION and device.mig_current == 1):
                name = known(device.pci_bus_id) or known(device.index)
                yield Symptom(f"nvml.device={answer}", where, f"{call} of GPU {name} returns {codes.nvml(answer)}")


def _silence(library: str, where: Where, asked: Nvml | CudaApi) -> Iterator[Symptom]:
    if call := known(asked.hangs_at):
        yield Symptom(f"{library}.hangs", where, f"{call} does not return")
    if call := known(asked.crashes_at):
        yield Symptom(f"{library}.crashes", where, f"{call} crashes the program that calls it")


def _is_ordinary(facts: Facts, where: Where, place: Place, code: int) -> bool:
    """NVML is missing by design: Jetson, a driver in a container, a compute-only container."""
    if is_tegra(facts):
        return True
    if code != _CONTAINER_LACKS_NVML:
        return False
    if where == "container":
        return known(place.cuda.init) == 0
    reached = known(facts.container.nvml.init) == 0 or known(facts.container.cuda.init) == 0
    return reached or driver_is_contained(facts) or not gpus(facts)


def _cuda(where: Where, place: Place) -> Iterator[Symptom]:
    cuda, nvml = place.cuda, place.nvml
    yield from _silence("cuda", where, cuda)
    if where == "container" and is_absent(cuda.library):
        yield Symptom("cuda.library", where, "libcuda.so.1 is not found")
    if where == "host" and is_absent(cuda.library) and known(nvml.init) == 0 and known(nvml.device_count) != 0:
        yield Symptom("cuda.library", where, "NVML answers, but libcuda.so.1 is not found")
    if code := known(cuda.init):
        yield Symptom(f"cuda.init={code}", where, f"cuInit returns {codes.cuda(code)}")
    if code := known(cuda.runtime_code):
        yield Symptom(f"cuda.runtime={code}", where, f"cudaGetDeviceCount returns {codes.cuda(code)}")
    for device in each(cuda.devices):
        if code := known(device.context_code):
            yield Symptom(f"cuda.context={code}", where, f"creating a context returns {codes.cuda(code)}")
        if code := known(device.kernel_code):
            yield Symptom(f"cuda.kernel={code}", where, f"the first kernel returns {codes.cuda(code)}")


def _frameworks(where: Where, environment: PythonEnvironment) -> Iterator[Symptom]:
    torch, onnx = known(environment.torch), known(environment.onnxruntime)
    flow, jax = known(environment.tensorflow), known(environment.jax)
    if torch and known(torch.is_available) is False:
        yield Symptom("torch", where, "torch.cuda.is_available() is False")
    elif torch and (error := known(torch.error)):
        yield Symptom("torch", where, f"torch raises {error}")
    if onnx and (used := known(onnx.session_providers)) and set(used) == {"CPUExecutionProvider"}:
        yield Symptom("onnxruntime", where, "an onnxruntime session runs on the CPU")
    if flow and known(flow.gpus) == 0:
        yield Symptom("tensorflow", where, "TensorFlow lists no GPU")
    if jax and known(jax.backend) == "cpu":
        yield Symptom("jax", where, "jax runs on the CPU")


def _of_image(facts: Facts) -> Iterator[Symptom]:
    if known(facts.image.registry_status) == _NOT_FOUND:
        yield Symptom("image.registry=404", "container", "the registry has no such image")


def _compilers(where: Where, environment: PythonEnvironment) -> Iterator[Symptom]:
    """What fails although CUDA starts; if CUDA fails, its own symptoms suffice."""
    cupy, triton = known(environment.cupy), known(environment.triton)
    if cupy and (error := known(cupy.error)):
        yield Symptom("cupy", where, f"cupy raises {error}")
    if triton and (error := known(triton.error)):
        yield Symptom("triton", where, f"triton raises {error}")


def _of_messages(facts: Facts) -> Iterator[Symptom]:
    """What a user reported, in the place where the same was measured, otherwise in the container."""
    measured = {symptom.id: symptom.where for where, place in places(facts) for symptom in _measured(where, place)}
    error = known(facts.container.error)
    for line in (*each(facts.messages), *((error,) if error else ())):
        name = next((row["symptom"] for row in _known()["messages"] if re.search(row["pattern"], line)), None)
        if name is not None and name not in measured:
            yield Symptom(name, "container", f"reported: {line.strip()}")


def _measured(where: Where, place: Place) -> Iterator[Symptom]:
    if code := known(place.nvml.init):
        yield Symptom(f"nvml.init={code}", where, "")
    yield from _cuda(where, place)


@cache
def _known() -> _Known:
    return cast("_Known", tomllib.loads(read_package_file("data/symptoms.toml")))


def deciders(symptom: str) -> tuple[Decider, ...]:
    """The facts that would tell the causes of a symptom apart, by its id."""
    row = next(row for row in _known()["deciders"] if fnmatchcase(symptom, row["symptom"]))
    return tuple(Decider(item["fact"], item["command"]) for item in row["facts"])
