"""The image or container that somebody asked for: refused here, before anything is looked at, where there is none."""

from mlship.doctor.probes.base import Look
from mlship.engine.failures import engine_failure, no_docker
from mlship.engine.look import EngineLook, LookResult
from mlship.errors import UsageError


def check(engine: EngineLook, look: Look) -> None:
    """See that what is asked for is there.

    Raises:
        EngineError: no engine answers, so that there is nothing to ask.
        UsageError: it has no such image or container.
    """
    if look.container is not None:
        _refuse(engine.container(look.container), f"container {look.container}", "`docker ps --all` lists them")
    if look.image is None:
        return
    answer = engine.image(look.image)
    # Of NVIDIA's own images a tag that is gone is a diagnosis.
    if answer.lack == "not there" and is_nvidias(look.image) and engine.registry(look.image).lack == "not there":
        return
    _refuse(answer, f"image {look.image}", f"`docker pull {look.image}`, then again; nothing is pulled for you")


def is_nvidias(reference: str) -> bool:
    """An image of NVIDIA's: nvidia/cuda on Docker Hub or behind a mirror, nvcr.io/nvidia."""
    return "nvidia/" in reference


def _refuse(answer: LookResult, what: str, hint: str) -> None:
    if answer.lack == "not there":
        raise UsageError(f"the engine has no {what}", hint=hint)
    if answer.lack == "no client":
        raise no_docker()
    if answer.lack is not None:
        raise engine_failure(answer.said)
