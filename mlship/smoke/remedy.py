"""What usually mends a failure, told from the text that it left behind. Pure; each pattern has its text as a test."""

import re
from dataclasses import dataclass

from mlship.engine.base import ImageInfo
from mlship.frameworks import distribution_of
from mlship.smoke.gpu_causes import REBUILD, RELOCK, missing_library, of_text
from mlship.smoke.spec import SmokeSpec
from mlship.units import size

_MODULE = re.compile(r"No module named '?([\w.]+)")
_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libsndfile.so.1": "libsndfile1",
}


@dataclass(frozen=True)
class Situation:
    """Where a failure happened.

    Attributes:
        uid: who the code ran as; None where nothing ran.
        gpu: it was given the host's GPUs; `driver` is the CUDA version that they offer, such as 12040.
    """

    spec: SmokeSpec
    image: ImageInfo
    uid: int | None = None
    gpu: bool = False
    driver: int | None = None

    @property
    def user(self) -> str:
        return self.image.user.partition(":")[0] or (str(self.uid) if self.uid else "0")


# First match wins: what is more certain stands first.
_ADVICE: dict[str, str] = {
    r"exec format error": (
        "the image is for another processor ({platform}): build it for this machine's platform "
        "(`platform` in mlship.yaml), or test it on a machine of its own kind"
    ),
    r"cannot start: python: ": "the image has no `python` on its PATH; mlship tests images of Python models only",
    r"executable file not found|cannot start: |exec: .*no such file or directory": (
        "the program that the image's command names cannot be run there: add the package that brings it to "
        f"requirements.in, or mend `serve.command` in mlship.yaml; {RELOCK}"
    ),
    r"Read-only file system": (
        "the container's file system is read-only but for /tmp: let what is written go there "
        "(under `env` in mlship.yaml, such as HF_HOME, MPLCONFIGDIR or NUMBA_CACHE_DIR: /tmp)"
    ),
    r"libcuda\.so|libcudart|libcublas|CUDA driver|NVIDIA driver|CUDA-capable device|CUDA GPUs": (
        "the model asks for a GPU, and this test gives it none: load it on the CPU where there is no GPU, "
        "or test it where there is one: `mlship smoke IMAGE --on gpu`"
    ),
    r"Name or service not known|name resolution|Network is unreachable|Max retries exceeded|"
    r"We couldn't connect to|LocalEntryNotFound|URLError": (
        "the model is fetched when it loads, and this test has no network (nor should a start depend on one): "
        f"put the files into the repository, name them under `model.weights` in mlship.yaml, {REBUILD}"
    ),
    r"Address already in use": "let only one server listen, on 0.0.0.0:{port} (`serve.port` in mlship.yaml)",
    r"Permission denied: '(?P<file>[^']+)'": (
        "{file} cannot be used by user {user}: make it readable to all, keep it out of /root, "
        f"and write to /tmp only; {REBUILD}"
    ),
    r"No such file or directory: '(?P<file>[^']+)'": (
        f"{{file}} is not in the image: name it under `source` or `model.weights` in mlship.yaml, {REBUILD}"
    ),
    r"neither callable nor has a \.predict": (
        "let {function}() return the predictor: a function, or an object with .predict, that takes the sample's JSON "
        f"and returns numbers; {REBUILD}"
    ),
    r"MemoryError|Cannot allocate memory": "raise `smoke.memory` in mlship.yaml (now {memory})",
}


def advise(text: str, situation: Situation) -> str | None:
    """What mends a failure of which `text` is left; None where nothing is known of it."""
    return (
        _home_of_root(text, situation)
        or _module(text, situation)
        or _gpu(text, situation)
        or _library(text)
        or _listed(text, situation)
    )


def _home_of_root(text: str, situation: Situation) -> str | None:
    """The classic: `pip install --user` as root in the builder, then another user in the runtime."""
    spoken = "/root/" in text
    known = any("/root/" in value for value in situation.image.env.values())
    unseen = re.search(r"No module named|not found|[Pp]ermission denied", text)
    if situation.user in ("0", "root") or not unseen or not (spoken or known):
        return None
    return (
        f"packages were installed into /root/.local and the image runs as user {situation.user}, "
        "but /root is 0700 (closed to all but root): install into /opt/venv, as `mlship build` does"
    )


def _module(text: str, situation: Situation) -> str | None:
    match = _MODULE.search(text)
    if match is None:
        return None
    module = match[1]
    top = module.partition(".")[0]
    if top == situation.spec.load.partition(":")[0].partition(".")[0]:
        return (
            f"your module {top} is not in the image: name its file or folder under `source` in mlship.yaml, {REBUILD}"
        )
    return (
        f"add {distribution_of(module) or f'the distribution that has {module}'} to requirements.in, {RELOCK}"
        f" (where {top} is your own module, name it under `source` in mlship.yaml instead)"
    )


def _gpu(text: str, situation: Situation) -> str | None:
    """A CUDA library is missing with or without a GPU; all else is told where there is one."""
    known = of_text(text, situation.driver) if situation.gpu else missing_library(text)
    return known.remedy if known else None


def _library(text: str) -> str | None:
    match = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", text)
    package = _LIBRARIES.get(match[1]) if match else None
    if match is None or match[1].startswith("libcuda"):
        return None
    which = f"Debian's package {package}" if package else f"the Debian package that brings {match[1]}"
    return f"add {which} under `system.run` in mlship.yaml, {REBUILD}"


def _listed(text: str, situation: Situation) -> str | None:
    for pattern, advice in _ADVICE.items():
        match = re.search(pattern, text)
        if match:
            return advice.format(
                **match.groupdict(),
                platform=situation.image.platform,
                user=situation.user,
                port=situation.spec.port,
                function=situation.spec.load.partition(":")[2],
                memory=size(situation.spec.memory),
            )
    return None
