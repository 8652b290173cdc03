"""Which pins have to do with CUDA, by name alone: every lock is asked, so it is quick. `mlship.cuda` knows more."""

from collections.abc import Iterable

from mlship.lock.pins import Pin

LIBRARIES = ("nvidia-", "cuda-")
_OTHERS = ("cupy-", "jax-cuda", "onnxruntime-gpu", "tensorrt")


def brings_cuda(pins: Iterable[Pin]) -> bool:
    """Some pin is one of CUDA's libraries, or of a package that is made for them."""
    return any(pin.name.startswith((*LIBRARIES, *_OTHERS)) or "+cu" in pin.version for pin in pins)
