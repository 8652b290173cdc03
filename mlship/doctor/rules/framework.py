"""Rules about frameworks: installed without CUDA, or not fit for driver and GPUs, judged as the build judges a lock."""

from collections.abc import Iterator
from shlex import quote

from mlship.cuda.fit.judge import Reason, ReasonKind, offered_by
from mlship.cuda.tables.lookup import first_driver
from mlship.cuda.versions import Cuda
from mlship.doctor import advice
from mlship.doctor.conditions import Values
from mlship.doctor.container import may_start
from mlship.doctor.facts.fact import Fact, each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaDevice, Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Evidence, Step, Where
from mlship.doctor.frameworks import (
    Judged,
    as_cuda,
    driver_version,
    environments,
    installed,
    judged,
    mismatched_plugin,
    profile,
    works_on_gpu,
)
from mlship.doctor.queries import gpu_is_known_absent, gpus, places
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_OLD, _NO_KERNEL, _BAD_PTX = 35, 209, 222
_PTX = "unsupported toolchain"
_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


def _fix(facts: Facts, item: Judged, needs: Reason | None, *more: Step | None) -> tuple[Step, ...]:
    """What runs here, then a driver update if that helps."""
    here = installed(item.environment) if item.environment else {}
    image = advice.base_image(item.host)
    first = advice.install_step(item.package, item.version, item.host, item.where, here) if item.package else None
    if first is None and not item.package and image:
        first = Step(f"Use a base image whose CUDA this driver and this GPU support, such as {image}.")
    update = advice.driver(facts, item.host, needs.needs if needs else None)
    steps = tuple(step for step in (first, update, *more) if step)
    if steps and first is None:
        steps = (advice.without_or(steps[0]), *steps[1:])
    return steps or (Step("Install a build that contains code for this GPU, or build it from source."),)


def _evidence(item: Judged) -> tuple[Evidence, ...]:
    offered = offered_by(item.host)
    supports = f" (CUDA {offered})" if offered else ""
    where = f"{item.where}.pythons" if item.environment else "image.cuda_version"
    torch = known(item.environment.torch) if item.environment and item.package == "torch" else None
    code = each(torch.arch_list) if torch else ()
    return (
        Evidence(where, f"{item.package} {item.version}".strip()),
        *((Evidence(f"{where}.torch.arch_list", " ".join(code)),) if code else ()),
        Evidence("kernel.nvidia.version", f"{item.host.driver}{supports}")
        if item.driver_is_exact
        else Evidence("kernel.nvidia.version", f"unknown; {item.host.driver} or newer{supports}"),
        *(Evidence("nvml.devices", f"{gpu.name}, compute capability {gpu.capability}") for gpu in item.host.gpus),
    )


@computes("runtime-35-driver-too-old")
def _old_drivers(facts: Facts) -> Iterator[Values]:
    for item in judged(facts):
        reason, code = item.reason("driver-floor"), known(item.place.cuda.runtime_code)
        fits = code == _OLD or (bool(item.package) and (item.works is False or code is None))
        if reason and fits and not item.works and may_start(item.place):
            yield {
                "where": item.where,
                "name": item.stack.name,
                "needs": str(reason.needs),
                "driver": item.host.driver,
                "fix": _fix(facts, item, reason, advice.forward(item.host, item.stack.cuda)),
                "shown": _evidence(item),
            }
    for where, place in places(facts):  # the CUDA version is unknown, but its runtime is newer than the driver
        host = profile(facts, place)
        if known(place.cuda.runtime_code) == _OLD and known(place.cuda.init) == 0 and host:
            version, image = known(place.cuda.driver_version), advice.base_image(host)
            yield {"where": where, "name": None, "driver": host.driver, "version": version, "image": image}


def _no_kernels(facts: Facts, kind: ReasonKind) -> Iterator[Values]:
    """What is installed contains no code for a GPU."""
    for item in judged(facts, by_torch=True):
        reason = item.reason(kind)
        if reason and may_start(item.place) and (item.package or _no_kernel_was_seen(facts, item.place)):
            shown = (*_evidence(item), *_kernel_codes(item.where, item.place, _NO_KERNEL))
            yield {"where": item.where, "reason": reason.text, "fix": _fix(facts, item, None), "shown": shown}


@computes("blackwell-sm120-old-torch")
def _too_new_gpu(facts: Facts) -> Iterator[Values]:
    return _no_kernels(facts, "arch-too-new")


@computes("pascal-volta-cuda13-wheel")
def _dropped_gpu(facts: Facts) -> Iterator[Values]:
    return _no_kernels(facts, "arch-dropped")


def _no_kernel_was_seen(facts: Facts, place: Place) -> bool:
    reported = any("no kernel image" in line for line in each(facts.messages))
    return reported or any(known(device.kernel_code) == _NO_KERNEL for device in each(place.cuda.devices))


def _kernel_codes(where: Where, place: Place, code: int) -> tuple[Evidence, ...]:
    devices: Fact[tuple[CudaDevice, ...]] = place.cuda.devices
    seen = any(known(device.kernel_code) == code for device in each(devices))
    return (Evidence(f"{where}.cuda.devices", f"the first kernel returns {codes.cuda(code)}"),) if seen else ()


def _newest(item: Judged) -> Cuda:
    """The newest CUDA among what it was built with and the libraries that compile for it at run time."""
    return max(item.stack.built, item.stack.cuda)


def _build_for(item: Judged) -> str:
    """The settings that make compilers generate machine code for the GPUs here."""
    capabilities = sorted({gpu.capability for gpu in item.host.gpus if gpu.capability})
    if not capabilities:
        return "nvcc -arch=sm_XX, TORCH_CUDA_ARCH_LIST"
    return f"nvcc -arch=sm_{capabilities[0].replace('.', '')}, TORCH_CUDA_ARCH_LIST='{' '.join(capabilities)}'"


@computes("unsupported-ptx-version-222")
def _new_ptx(facts: Facts) -> Iterator[Values]:
    everything = judged(facts)
    for item in everything:
        if (reason := item.reason("ptx-jit")) and may_start(item.place):
            yield _ptx(facts, item, reason.text, measured=True)
    for where, place in places(facts):
        seen = _kernel_codes(where, place, _BAD_PTX)
        reported = any(_PTX in line for line in each(facts.messages))
        newer = [item for item in everything if item.where == where and _is_newer(item)]
        if newer and (seen or reported):
            item = newer[0]
            named = f"PTX of CUDA {_newest(item)}{f' ({item.stack.name})' if item.package else ' (the image)'}"
            why = f"{named} is newer than driver {item.host.driver}, which supports CUDA {offered_by(item.host)}"
            yield _ptx(facts, item, why, measured=bool(seen))
        elif seen and (driver := driver_version(facts, place)):
            yield {"where": where, "reason": None, "driver": driver, "shown": seen}


def _is_newer(item: Judged) -> bool:
    offered = offered_by(item.host)
    return offered is not None and _newest(item) > offered


def _ptx(facts: Facts, item: Judged, reason: str, *, measured: bool) -> Values:
    update = advice.driver(facts, item.host, first_driver(_newest(item)))
    other = _other_compiler(item, installed(item.environment) if item.environment else {})
    build = Step(f"Or build it with machine code for this GPU: {_build_for(item)}.", instead=True)
    steps = (other, build if other else advice.without_or(build), update, advice.forward(item.host, _newest(item)))
    return {
        "where": item.where,
        "reason": reason,
        "certain": measured,
        "fix": tuple(step for step in steps if step),
        "shown": (*_evidence(item), *_kernel_codes(item.where, item.place, _BAD_PTX)),
    }


def _other_compiler(item: Judged, here: dict[str, str]) -> Step | None:
    """The compiler of the driver's CUDA if a wheel installs a newer one; else another build of the package."""
    offered = offered_by(item.host)
    for name, version in sorted(here.items()):
        cuda = as_cuda(version) if name.startswith("nvidia-cuda-nvrtc") else None
        if cuda and offered and cuda > offered and cuda.major == offered.major:
            say = "Install the run-time compiler of the driver's CUDA version:"
            return Step(say, (f"pip install {quote(f'{name}=={offered}.*')}",))
    step = advice.install_step(item.package, item.version, item.host, item.where, here) if item.package else None
    return None if step and f"CUDA {item.stack.built}," in step.say else step


def _has_gpu(facts: Facts, place: Place) -> bool:
    """An NVIDIA GPU was seen here, or its driver answered."""
    answers = (place.nvml.init, place.cuda.init, facts.host.nvml.init, facts.host.cuda.init)
    return not gpu_is_known_absent(facts) and (bool(gpus(facts)) or any(known(answer) == 0 for answer in answers))


def _install(facts: Facts, place: Place, environment: PythonEnvironment, package: str, version: str) -> Values:
    """A build for this host, for the texts, which have their own step if there is none."""
    host = profile(facts, place)
    found = advice.build_for(package, version, host, installed(environment)) if host else None
    return dict(zip(("built", "pip_install"), found or (None, None), strict=True))


@computes("cpu-only-torch")
def _cpu_torch(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        torch, version = known(environment.torch), installed(environment).get("torch", "")
        local = version.partition("+")[2]
        without = torch is not None and is_absent(torch.cuda)
        fails = torch is None or known(torch.is_available) is not True
        if (without or local == "cpu" or local.startswith(("rocm", "xpu"))) and fails and _has_gpu(facts, place):
            yield {
                "where": where,
                "shown": (known(torch.version) if torch else None) or version,
                "without": without,
                "rocm": local.startswith("rocm"),
                "xpu": local == "xpu",
                "cpu": local != "xpu" and not local.startswith("rocm"),
                **_install(facts, place, environment, "torch", version),
            }


@computes("cpu-only-onnxruntime")
def _cpu_onnxruntime(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        onnx, here = known(environment.onnxruntime), installed(environment)
        providers = known(onnx.available_providers) if onnx else None
        built_in = providers is not None and "CUDAExecutionProvider" in providers
        fails = works_on_gpu(environment, "onnxruntime") is False or providers is not None
        if "onnxruntime" in here and not built_in and fails and _has_gpu(facts, place):
            version = here.get("onnxruntime-gpu", here["onnxruntime"])
            yield {
                "where": where,
                "both": "onnxruntime-gpu" in here,
                "version": here["onnxruntime"],
                "packages": tuple(name for name in sorted(here) if "onnx" in name),
                "providers": providers,
                **_install(facts, place, environment, "onnxruntime-gpu", version),
            }


@computes("jax-cpu-only-jaxlib")
def _jax_without_plugin(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        jax, here = known(environment.jax), known(environment.distributions)
        if jax is None or here is None or known(jax.backend) != "cpu" or not _has_gpu(facts, place):
            continue
        odd = mismatched_plugin(environment)
        if odd or not any(name in here for name in _PLUGINS):
            version = known(jax.version) or here.get("jax", "")
            step = _install(facts, place, environment, "jax", version)
            yield {"where": where, "odd": odd, "version": version, **step}
