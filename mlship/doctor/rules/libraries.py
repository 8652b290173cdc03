"""Rules about packages and libraries that frameworks lack, or that do not go together."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from shlex import quote

from mlship.cuda.fit.judge import offered_by
from mlship.cuda.hosts.profile import HostProfile
from mlship.cuda.tables.lookup import library_pin, release_of, tables, wheel_index
from mlship.cuda.tables.rows import Release, Variant
from mlship.cuda.versions import Cuda
from mlship.doctor.advice import brackets
from mlship.doctor.conditions import Values
from mlship.doctor.container import may_start
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment, Torch
from mlship.doctor.frameworks import as_cuda, environments, errors, installed, mismatched_plugin, profile, works_on_gpu
from mlship.doctor.queries import line_of, variable
from mlship.doctor.rules.base import computes

_CANNOT_OPEN = re.compile(r"(lib[\w+.-]+\.so[.0-9]*): cannot open shared object file")
_CUDA_FOLDER = re.compile(r"/cuda(-[0-9.]+)?(/|$)|/(site|dist)-packages/nvidia/|/cudnn")
_WHEELS = re.compile(r"/(site|dist)-packages/nvidia/")
_DRIVER_FOLDER = re.compile(r"^/usr/local/nvidia/|/compat/?$|/stubs/?$")
_JITLINK = re.compile(r"undefined symbol: (_*nvJitLink\w*)")
_AT_ODDS = re.compile(r"undefined symbol|Loaded runtime CuDNN library|version mismatch", re.IGNORECASE)
_TRITON = re.compile(r"libcuda\.so cannot found|cannot find -lcuda")
_OF_DRIVER = ("libcuda.so", "libnvidia-")  # no wheel brings these: they come from the host
_PATH = "LD_LIBRARY_PATH"
_FRAMEWORKS = ("torch", "onnxruntime", "tensorflow", "jax")
_CUPY = re.compile(r"^cupy(-cuda\d+x?|-rocm.*)?$")
_OF_JETSON = frozenset({"sm_53", "sm_62", "sm_72", "sm_87", "sm_101", "sm_110"})


def _said(facts: Facts, environment: PythonEnvironment) -> tuple[str, ...]:
    return (*(line for _, line in errors(environment)), *each(facts.messages))


def _fails(environment: PythonEnvironment) -> tuple[str, ...]:
    """Frameworks that report that they do not use the GPU."""
    return tuple(name for name in _FRAMEWORKS if works_on_gpu(environment, name) is False)


def _kept(place: Place) -> str:
    """LD_LIBRARY_PATH without CUDA's folders; the driver's own folder stays, since some images need it."""
    folders = (known(variable(place, _PATH)) or "").split(":")
    return ":".join(item for item in folders if item and item not in _cuda_folders(place))


@dataclass(frozen=True)
class _Missing:
    """The CUDA libraries of a framework that the loader does not find.

    Attributes:
        variant: the table row of the installed release.
    """

    package: str
    version: str | None
    variant: Variant | None
    names: tuple[str, ...]

    def ways(self, facts: Facts, place: Place) -> Values:
        """What brings the libraries: a requirement with wheels, an image."""
        extras = self.variant.extras if self.variant else ()
        band = f"=={self.version.partition('+')[0]}" if self.version else ""
        return {
            "wheels": f"{self.package}{brackets(extras)}{band}" if extras else None,
            "base_image": image_with(self.variant, profile(facts, place)) if self.variant else None,
        }


def _missing(
    facts: Facts, place: Place, environment: PythonEnvironment, package: str, reported: tuple[str, ...]
) -> _Missing:
    version = installed(environment).get(package)
    variant = variant_of(package, version)
    asked = _wanted(variant) if variant else ()
    messages = dict.fromkeys(name for line in _said(facts, environment) for name in _CANNOT_OPEN.findall(line))
    fits = tuple(name for name in messages if name in asked or name.startswith(("libcu", "libnv")))
    named = tuple(name for name in reported or fits if not name.startswith(_OF_DRIVER))
    return _Missing(package, version, variant, named or (() if reported or fits else _unresolved(place, asked)))


def _cuda_folders(place: Place) -> tuple[str, ...]:
    """Folders of LD_LIBRARY_PATH that contain CUDA libraries, without those of only the driver."""
    folders = (known(variable(place, "LD_LIBRARY_PATH")) or "").split(":")
    return tuple(item for item in folders if _CUDA_FOLDER.search(item) and not _DRIVER_FOLDER.search(item))


def _brought(environment: PythonEnvironment) -> dict[str, str]:
    """Sonames that wheels in this environment contain, each with its distribution."""
    pins = ((name, library_pin(name, version)) for name, version in sorted(installed(environment).items()))
    return {soname: name for name, pin in pins if pin for soname in pin.sonames}


def _foreign(place: Place, environment: PythonEnvironment) -> dict[str, str]:
    """Libraries that wheels contain but that were loaded from a folder of LD_LIBRARY_PATH."""
    own, folders = _brought(environment), _cuda_folders(place)
    return {
        soname: path
        for soname, path in sorted((known(environment.loaded) or {}).items())
        if soname in own and folders and not _is_own(path, environment)
    }


def _is_own(path: str, environment: PythonEnvironment) -> bool:
    prefix = known(environment.prefix)
    return bool(_WHEELS.search(path)) and (prefix is None or path.startswith(f"{prefix.rstrip('/')}/"))


def variant_of(package: str, version: str | None) -> Variant | None:
    """The table row of a release on PyPI."""
    release = release_of(package, version) if version else None
    return release.variant() if isinstance(release, Release) else None


def _wanted(variant: Variant) -> tuple[str, ...]:
    """The libraries that a build without its own looks for first."""
    cudnn = (variant.cudnn or "").partition(".")[0]
    major = f"libcublasLt.so.{variant.cuda.major}" if variant.cuda else ""
    return tuple(name for name in (f"libcudnn.so.{cudnn}" if cudnn else "", major) if name)


def _unresolved(place: Place, sonames: tuple[str, ...]) -> tuple[str, ...]:
    """The libraries that the loader looked for but did not find."""
    return tuple(name for name in sonames if is_absent(looked_up(place.loader.resolves, name)))


def image_with(variant: Variant, host: HostProfile | None) -> str | None:
    """The newest nvidia/cuda image with a build's CUDA and cuDNN that this host's driver supports."""
    offered = offered_by(host) if host else None
    least, cudnn = variant.cuda, (variant.cudnn or "").partition(".")[0]
    if least is None:
        return None
    below = variant.cuda_below or Cuda(least.major + 1, 0)
    fitting = [
        image
        for image in tables().images
        if least <= image.cuda < below and not image.gone and image.distro == "ubuntu22.04"
        if not cudnn or (image.cudnn or "").partition(".")[0] == cudnn
    ]
    kept = [image for image in fitting if offered is None or image.cuda <= offered]
    return f"nvidia/cuda:{kept[-1].tag('cudnn-runtime' if cudnn else 'runtime')}" if kept else None


@computes("ort-cudnn9-missing")
def _onnxruntime_libraries(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        onnx, own = known(environment.onnxruntime), _brought(environment)
        if onnx is None or works_on_gpu(environment, "onnxruntime") is not False or not may_start(place):
            continue
        built_in = "CUDAExecutionProvider" in each(onnx.available_providers)
        found = _missing(facts, place, environment, "onnxruntime-gpu", each(onnx.missing_libraries))
        if found.names and (built_in or "onnxruntime-gpu" in installed(environment)):
            lies = tuple(sorted({own[name] for name in found.names if name in own}))
            ways = found.ways(facts, place) if len(lies) < len(found.names) else {"wheels": None, "base_image": None}
            there = bool(lies) and not any(ways.values())
            yield {"where": where, "missing": found.names, "lies": lies, "there": there, **ways}


@computes("tf-cannot-dlopen")
def _tensorflow_libraries(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        flow = known(environment.tensorflow)
        if flow is None or known(flow.gpus) != 0 or is_absent(flow.cuda_version) or not may_start(place):
            continue
        reported = each(flow.missing_libraries)
        found = _missing(facts, place, environment, "tensorflow", reported)
        bare = not found.names and not reported and _is_bare(place, environment, found.variant)
        if found.names or bare:
            version = found.version or known(flow.version)
            full = replace(found, version=version, variant=found.variant or variant_of("tensorflow", version))
            yield {
                "where": where,
                "version": version or "",
                "named": found.names,
                "bare": bare,
                "certain": not bare,
                **full.ways(facts, place),
            }


def _is_bare(place: Place, environment: PythonEnvironment, variant: Variant | None) -> bool:
    """No wheel contains CUDA's libraries, and the loader's cache does not list them."""
    cache = known(place.loader.cache)
    listed = known(environment.distributions) is not None and "tensorflow" in installed(environment)
    missing = cache is None or (variant is not None and not set(_wanted(variant)) & set(cache))
    return listed and missing and not _brought(environment) and not _cuda_folders(place)


@computes("ld-library-path-shadows-wheel-libs")
def _shadowed(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        if _fails(environment) and _cuda_folders(place) and may_start(place):
            loaded = _foreign(place, environment)
            if loaded or _is_likely(facts, environment):
                yield {
                    "where": where,
                    "kept": _kept(place),
                    "loaded": tuple(f"{name}: {file}" for name, file in list(loaded.items())[:4]),
                    "picked": tuple(sorted(loaded.values())[:3]),
                }


def _is_likely(facts: Facts, environment: PythonEnvironment) -> bool:
    """The loaded files are unknown, but jax has its plugin, or the messages mention two versions."""
    if known(environment.loaded) is not None or not _brought(environment):
        return False
    messages = _said(facts, environment)
    plugin = any(name.startswith("jax-cuda") for name in installed(environment))
    jax = known(environment.jax)
    on_cpu = jax is not None and known(jax.backend) == "cpu"
    return any(_AT_ODDS.search(line) for line in messages) or (plugin and on_cpu and not mismatched_plugin(environment))


@computes("nvjitlink-symbol-conflict")
def _jitlink(facts: Facts) -> Iterator[Values]:
    """The symbol that libcusparse did not find in the loaded nvJitLink, and where that one comes from."""
    for where, place, environment in environments(facts):
        raised = tuple(line for _, line in errors(environment))
        found = next((found for line in (*raised, *each(facts.messages)) if (found := _JITLINK.search(line))), None)
        if found is None:
            continue
        loaded = {n: p for n, p in (known(environment.loaded) or {}).items() if n.startswith("libnvJitLink")}
        folders, wheel = _cuda_folders(place), _old_wheel(environment, found[1])
        version, _, variant = installed(environment).get("torch", "").partition("+")
        of_cuda = bool(version) and variant.startswith("cu")
        yield {
            "where": where,
            "symbol": found[1],
            "source": next(iter((*loaded.values(), *folders[:1], *((wheel,) if wheel else ()))), "another CUDA"),
            "certain": any(_JITLINK.search(line) for line in raised) or bool(folders or wheel),
            "folders": folders,
            "kept": _kept(place),
            "loaded": tuple(f"{name}: {path}" for name, path in sorted(loaded.items())),
            "wheel": wheel,
            "torch": f"torch=={version}" if of_cuda else None,  # a newer torch may need another CUDA
            "index": wheel_index().of(quote(variant)) if of_cuda else None,
        }


def _old_wheel(environment: PythonEnvironment, symbol: str) -> str | None:
    """The distribution that is older than the symbol: __nvJitLinkComplete_12_4 needs CUDA 12.4."""
    asked = re.search(r"_(\d+)_(\d+)$", symbol)
    for name, version in sorted(installed(environment).items()):
        cuda = as_cuda(version)
        if asked and cuda and name.startswith("nvidia-nvjitlink") and cuda < Cuda(int(asked[1]), int(asked[2])):
            return f"{name} {version}"
    return None


@computes("triton-libcuda-so-cannot-found")
def _triton(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        triton, cache = known(environment.triton), known(place.loader.cache)
        error = known(triton.error) if triton else None
        line = next((text for text in (error, *each(facts.messages)) if text and _TRITON.search(text)), None)
        there = triton is not None or "triton" in installed(environment)
        names = tuple(sorted(name for name in cache or {} if name.startswith("libcuda.so")))
        if (
            line
            and there
            and not (triton and is_absent(triton.error))
            and not {"libcuda.so", "libcuda.so.1"} <= {*names}
        ):
            library = known(place.cuda.library)
            yield {
                "where": where,
                "line": line.strip(),
                "names": ", ".join(names) or "no libcuda",
                "linked": "libcuda.so.1" in names,
                "folder": library.path.rpartition("/")[0] if library else "/usr/local/nvidia/lib64",
                "certain": bool(error) or cache is not None,
            }


@computes("two-cupy-packages")
def _two_cupy(facts: Facts) -> Iterator[Values]:
    line = line_of(facts, r"multiple CuPy packages|(?i:cupy).{0,80}(undefined symbol|NVRTC|libnvrtc|version)")
    for where, place, environment in environments(facts):
        names = tuple(sorted(name for name in installed(environment) if _CUPY.match(name)))
        cupy = known(environment.cupy)
        error = (known(cupy.error) if cupy else None) or (line.value if line else None)
        if len(names) > 1 and error:
            keep = _newest_cupy(names, (known(place.cuda.driver_version) or 0) // 1000 or 99)
            quoted = " ".join(map(quote, names))
            yield {"where": where, "cupy": cupy, "error": error.strip(), "names": names, "quoted": quoted, "keep": keep}


def _newest_cupy(names: tuple[str, ...], major: int) -> str:
    """The newest of them that a driver of this CUDA major version supports."""
    built = {name: int(found[1]) for name in names if (found := re.search(r"cuda(\d+)x", name))}
    fits = [name for name in built if built[name] <= major]
    return max(fits or built or names, key=lambda name: built.get(name, 0))


@computes("jetson-torch-for-servers")
def _torch_for_servers(facts: Facts) -> Iterator[Values]:
    for where, _, environment in environments(facts):
        torch = known(environment.torch)
        version = (known(torch.version) if torch else None) or installed(environment).get("torch", "")
        if torch and known(torch.is_available) is False and not _is_for_jetson(torch, version):
            yield {"where": where, "version": version, "archs": " ".join(each(torch.arch_list))}


def _is_for_jetson(torch: Torch, version: str) -> bool:
    """It contains code for a Jetson, or nothing shows that it does not."""
    archs = known(torch.arch_list)
    return "nv" in version or (bool(set(archs) & _OF_JETSON) if archs else "+" not in version)


@computes("xla-without-ptxas")
def _without_ptxas(facts: Facts) -> Values:
    here = {name for _, _, environment in environments(facts) for name in installed(environment)}
    thirteen = any("cuda13" in name or name.endswith("-cu13") for name in here)
    return {"package": "nvidia-cuda-nvcc" if thirteen else "nvidia-cuda-nvcc-cu12"}
