"""CUDA's libraries as Python environments bring and load them. Pure."""

import re
from collections.abc import Iterator

from mlship.cuda.fit.judge import offered_by
from mlship.cuda.hosts.profile import HostProfile
from mlship.cuda.tables.load import NvidiaImage, Release, Variant, pin_of, release_of, tables
from mlship.cuda.versions import Cuda
from mlship.doctor.facts.fact import is_absent, known, looked_up
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.stacks import installed
from mlship.doctor.views import variable

_CANNOT_OPEN = re.compile(r"(lib[\w+.-]+\.so[.0-9]*): cannot open shared object file")
_CUDA_FOLDER = re.compile(r"/cuda(-[0-9.]+)?(/|$)|/(site|dist)-packages/nvidia/|/cudnn")
_WHEELS = re.compile(r"/(site|dist)-packages/nvidia/")
_DRIVER_FOLDER = re.compile(r"^/usr/local/nvidia/|/compat/?$|/stubs/?$")


def errors(environment: PythonEnvironment) -> Iterator[str]:
    """What the frameworks raised."""
    torch, onnx, flow = known(environment.torch), known(environment.onnxruntime), known(environment.tensorflow)
    jax, cupy, triton = known(environment.jax), known(environment.cupy), known(environment.triton)
    for framework in (torch, onnx, flow, jax, cupy, triton):
        if framework is not None and (error := known(framework.error)):
            yield error


def unopened(text: str) -> tuple[str, ...]:
    """Libraries that an error says could not be opened."""
    return tuple(dict.fromkeys(_CANNOT_OPEN.findall(text)))


def cuda_folders(place: Place) -> tuple[str, ...]:
    """Folders of LD_LIBRARY_PATH that hold CUDA's libraries; not those of the driver alone."""
    folders = (known(variable(place, "LD_LIBRARY_PATH")) or "").split(":")
    return tuple(item for item in folders if _CUDA_FOLDER.search(item) and not _DRIVER_FOLDER.search(item))


def brought(environment: PythonEnvironment) -> dict[str, str]:
    """Sonames that wheels in this environment bring, each with its distribution."""
    pins = ((name, pin_of(name, version)) for name, version in sorted(installed(environment).items()))
    return {soname: name for name, pin in pins if pin for soname in pin.sonames}


def foreign(place: Place, environment: PythonEnvironment) -> dict[str, str]:
    """Libraries that wheels bring, and that were loaded from a folder of LD_LIBRARY_PATH instead."""
    own, folders = brought(environment), cuda_folders(place)
    return {
        soname: path
        for soname, path in sorted((known(environment.loaded) or {}).items())
        if soname in own and folders and not _is_own(path, environment)
    }


def _is_own(path: str, environment: PythonEnvironment) -> bool:
    prefix = known(environment.prefix)
    return bool(_WHEELS.search(path)) and (prefix is None or path.startswith(f"{prefix.rstrip('/')}/"))


def variant_of(package: str, version: str | None) -> Variant | None:
    """What the tables know of a release as PyPI has it."""
    release = release_of(package, version) if version else None
    return release.variant() if isinstance(release, Release) else None


def wanted(variant: Variant) -> tuple[str, ...]:
    """The libraries that a build without any of its own looks for first."""
    cudnn = (variant.cudnn or "").partition(".")[0]
    major = f"libcublasLt.so.{variant.cuda.major}" if variant.cuda else ""
    return tuple(name for name in (f"libcudnn.so.{cudnn}" if cudnn else "", major) if name)


def unresolved(place: Place, sonames: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the loader was asked for and did not find."""
    return tuple(name for name in sonames if is_absent(looked_up(place.loader.resolves, name)))


def image_with(variant: Variant, host: HostProfile | None) -> str | None:
    """The newest nvidia/cuda image with the CUDA and cuDNN of a build that this host's driver offers."""
    offered = offered_by(host) if host else None
    least, cudnn = variant.cuda, (variant.cudnn or "").partition(".")[0]
    if least is None:
        return None
    below = variant.cuda_below or Cuda(least.major + 1, 0)
    fitting = [
        image
        for image in tables().images
        if least <= image.cuda < below and not image.gone and _has(image, cudnn) and image.distro == "ubuntu22.04"
    ]
    kept = [image for image in fitting if offered is None or image.cuda <= offered]
    return f"nvidia/cuda:{kept[-1].tag('cudnn-runtime' if cudnn else 'runtime')}" if kept else None


def _has(image: NvidiaImage, cudnn: str) -> bool:
    return not cudnn or (image.cudnn or "").partition(".")[0] == cudnn


def at_odds(environment: PythonEnvironment) -> str | None:
    """The plug-in of jax that is of another release than jaxlib."""
    here, jax = installed(environment), known(environment.jax)
    jaxlib = here.get("jaxlib") or (known(jax.jaxlib_version) if jax else None)
    for name in ("jax-cuda12-plugin", "jax-cuda13-plugin"):
        if name in here and jaxlib and here[name].split(".")[:3] != jaxlib.split(".")[:3]:
            return f"{name} {here[name]} beside jaxlib {jaxlib}"
    return None
