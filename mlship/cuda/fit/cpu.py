"""PyTorch for CPU images.

PyPI's x86 wheels of torch require gigabytes of CUDA; PyTorch's own index has builds without it.
"""

import os
from collections.abc import Iterable

from mlship.cuda.fit.choose import read_requests
from mlship.cuda.tables.lookup import wheel_index
from mlship.frameworks import framework_table
from mlship.lock.gpu import CpuTarget
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from mlship.project.config import Config
from mlship.project.load import WHEEL_INDEX_VARIABLE

_VARIANT = "cpu"
_PACKAGES = ("torch", "torchvision", "torchaudio")


def cpu_target(config: Config, files: Iterable[InputFile]) -> CpuTarget:
    """The pages to lock from; none if the image is for GPUs or needs no torch."""
    if config.gpu or config.platform != "linux/amd64":
        return CpuTarget(())
    names = {request.name for request in read_requests(files, config)}
    torch = {name for row in framework_table().frameworks if row.name == "torch" for name in row.required_by}
    return CpuTarget(tuple(_page(name) for name in _PACKAGES) if names & {*_PACKAGES, *torch} else ())


def locked_cpu_pages(pins: Iterable[Pin]) -> tuple[str, ...]:
    """The pages to install from: those of the pins that are locked as CPU builds."""
    return tuple(_page(pin.name) for pin in pins if pin.name in _PACKAGES and pin.version.endswith(f"+{_VARIANT}"))


def _page(name: str) -> str:
    """The page of one package, not an index, which could offer any other name too."""
    base = os.environ.get(WHEEL_INDEX_VARIABLE) or wheel_index().address
    return f"{base.rstrip('/')}/{_VARIANT}/{name}/"
