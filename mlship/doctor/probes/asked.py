"""Check that the requested image or container exists before any probe runs."""

from mlship.doctor.probes.base import Look
from mlship.engine.failures import engine_failure, no_docker
from mlship.engine.look import EngineLook, LookResult
from mlship.errors import UsageError


def check(engine: EngineLook, look: Look) -> None:
    """Check that the requested image or container exists.

    Raises:
        EngineError: no engine answers.
        UsageError: the engine has no such image or container.
    """
    if look.container is not None:
        _refuse(engine.container(look.container), f"container {look.container}", "list them with `docker ps --all`")
    if look.image is None:
        return
    answer = engine.image(look.image)
    # A deleted tag of one of NVIDIA's own images is a diagnosis.
    if answer.lack == "not there" and is_nvidias(look.image) and engine.registry(look.image).lack == "not there":
        return
    _refuse(answer, f"image {look.image}", f"run `docker pull {look.image}`, then try again; mlship pulls nothing")


def is_nvidias(reference: str) -> bool:
    """Whether it is one of NVIDIA's images: nvidia/cuda on Docker Hub or a mirror, or nvcr.io/nvidia."""
    return "nvidia/" in reference


def _refuse(answer: LookResult, what: str, hint: str) -> None:
    if answer.lack == "not there":
        raise UsageError(f"the engine has no {what}", hint=hint)
    if answer.lack == "no client":
        raise no_docker()
    if answer.lack is not None:
        raise engine_failure(answer.said)
