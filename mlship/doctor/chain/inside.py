"""The links inside the container: nodes, libraries, NVML, CUDA; and of the programs there or on the host."""

from collections.abc import Iterator

from mlship.doctor.chain.delivery import not_examined, requested_gpus
from mlship.doctor.chain.host import (
    LACKS_NVML,
    LinkLook,
    and_sees,
    cuda_symptoms,
    device_symptoms,
    miscount,
    nodes_of,
    nvml_symptoms,
)
from mlship.doctor.chain.link import Symptom, it_holds, not_applicable
from mlship.doctor.container import host_driver, works
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Where
from mlship.doctor.frameworks import environments, errors, judged
from mlship.doctor.queries import is_tegra, is_wsl, places
from mlship.doctor.versions import same
from mlship.units import count_of

_COMPILERS = ("cupy", "triton")


def nodes_inside(facts: Facts) -> LinkLook:
    yield from not_examined(facts)
    if is_wsl(facts) or is_tegra(facts):
        yield not_applicable("the driver's nodes have other names here")
    yield from nodes_of("container", facts.container)


def libraries_inside(facts: Facts) -> LinkLook:
    cuda, driver = facts.container.cuda, host_driver(facts)
    library = known(cuda.library)
    if is_absent(cuda.library):
        yield Symptom("cuda.library", "container", "libcuda.so.1 is not found")
    if library and "/stubs/" in library.path:
        yield Symptom("loader.stub", "container", f"the loader takes the stub {library.path}")
    for one in (library, known(facts.container.nvml.library)):
        version = known(one.version) if one else None
        if one and version and driver and not same(version, driver) and "/compat/" not in one.path:
            seen = f"{one.path} has version {version}, the host's driver {driver}"
            yield Symptom("loader.version", "container", seen)
    yield from not_examined(facts)
    if library:
        yield it_holds(library.path)


def nvml_inside(facts: Facts) -> LinkLook:
    nvml = facts.container.nvml
    by_design = known(nvml.init) in {None, LACKS_NVML} and (is_tegra(facts) or works(facts))
    if not by_design:
        yield from nvml_symptoms("container", facts.container)
    yield from device_symptoms("container", facts.container)
    yield from _fewer_than_requested(facts)
    if known(nvml.init) == 0:
        count = known(nvml.device_count)
        yield it_holds(f"NVML answers{and_sees(count)}")
    if by_design:
        yield not_applicable("the container has no NVML, and needs none")
    yield from not_examined(facts)


def _fewer_than_requested(facts: Facts) -> Iterator[Symptom]:
    count, wanted = known(facts.container.nvml.device_count), len(requested_gpus(facts) or ())
    if known(facts.container.nvml.init) == 0 and count is not None and (count == 0 or count < wanted):
        name = "nvml.count=0" if count == 0 else "nvml.count"
        seen = f"NVML counts {count or 'no'} GPU{'' if count == 1 else 's'} in the container"
        yield Symptom(name, "container", seen + (f", {wanted} were requested" if wanted else ""))


def cuda_inside(facts: Facts) -> LinkLook:
    cuda = facts.container.cuda
    yield from cuda_symptoms("container", facts.container)
    yield from miscount(facts, "container", facts.container)
    if known(cuda.init) == 0 or known(cuda.runtime_code) == 0:
        count = known(cuda.device_count)
        yield it_holds(f"CUDA starts{and_sees(count)}")
    yield from not_examined(facts)


def image_fits(facts: Facts) -> LinkLook:
    looked = judged(facts)
    for item in looked:
        if item.works is False and item.verdict.outcome == "refused":
            seen = f"{item.package or 'CUDA'} {item.version} does not run here: {item.verdict.reasons[0].text}"
            yield Symptom(f"fit.{item.package or 'cuda'}", item.where, seen)
    if looked:
        yield it_holds(", ".join(f"{item.where}: {item.package or 'CUDA'} {item.version}" for item in looked))
    yield not_applicable("no framework with a known CUDA version was seen")


def libraries_resolve(facts: Facts) -> LinkLook:
    for where, _, environment in environments(facts):
        for name, lacks in sorted((known(environment.missing) or {}).items()):
            yield Symptom("library.missing", where, f"{name} does not find {', '.join(lacks)}")
        for framework in (known(environment.onnxruntime), known(environment.tensorflow)):
            if framework and (missing := known(framework.missing_libraries)):
                yield Symptom("library.missing", where, f"the loader does not find {', '.join(missing)}")
    if environments(facts):
        yield it_holds("no framework misses a library")
    yield not_applicable("no Python environment was examined")


def framework_works(facts: Facts) -> LinkLook:
    good = []
    for where, place in places(facts):
        for environment in each(place.pythons):
            yield from _on_the_cpu(where, environment, cuda_starts=known(place.cuda.init) == 0)
            torch = known(environment.torch)
            seen, there = known(torch.device_count) if torch else None, known(place.cuda.device_count) or 0
            if seen is not None and seen < there:
                yield Symptom("torch", where, f"torch counts {seen} of {count_of(there, 'GPU')}")
            if torch and known(torch.is_available):
                good.append(f"{where}: torch {known(torch.version) or ''} sees the GPU")
    if good:
        yield it_holds(", ".join(good))
    yield not_applicable("no framework was asked")


def _on_the_cpu(where: Where, environment: PythonEnvironment, *, cuda_starts: bool) -> Iterator[Symptom]:
    torch, onnx = known(environment.torch), known(environment.onnxruntime)
    flow, jax = known(environment.tensorflow), known(environment.jax)
    if torch and known(torch.is_available) is False:
        yield Symptom("torch", where, "torch.cuda.is_available() is False")
    if onnx and (used := known(onnx.session_providers)) and set(used) == {"CPUExecutionProvider"}:
        yield Symptom("onnxruntime", where, "an onnxruntime session runs on the CPU")
    if flow and known(flow.gpus) == 0:
        yield Symptom("tensorflow", where, "TensorFlow lists no GPU")
    if jax and known(jax.backend) == "cpu":
        yield Symptom("jax", where, "jax runs on the CPU")
    for name, error in errors(environment):
        if cuda_starts or name not in _COMPILERS:  # if CUDA fails, its own symptoms suffice for these
            yield Symptom(name, where, f"{name} raises {error}")


def resources(facts: Facts) -> LinkLook:
    """Only what was reported; doctor does not measure."""
    yield not_applicable(f"not measured{'' if facts.messages else '; nothing was reported'}")
