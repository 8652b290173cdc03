"""How much disk a build takes where nothing of it is there yet. Pure; an estimate, and said to be one."""

from collections.abc import Mapping

from mlship.image.plan import BuildPlan

# Bytes on disk for a byte of wheel: measured on PyPI's torch with CUDA (2.7 GB -> 4.5 GB), on scipy, pandas and others.
_UNPACKED = {"cuda": 1.7, "framework": 2.5, "compiled": 4.0, "heavy": 3.5, "light": 3.5}
# The installer's cache, the stage that installs, the layer, the unpacked image; the compressed layer is a third of one.
_COPIES = 4.3
# What the engine is sent, the stage that dates it, the layer, the unpacked image, the compressed layer.
_WEIGHT_COPIES = 5.0
_REST = 500_000_000  # base image, installer, code


def disk_needed(plan: BuildPlan, sizes: Mapping[str, int]) -> int | None:
    """Bytes at most, the engine's caches included; None where the sizes of the wheels are not known.

    Args:
        sizes: bytes of the wheels, by name of the package.
    """
    if plan.layers and not sizes:
        return None
    packages = sum(sizes.get(name, 0) * _UNPACKED[layer.group] for layer in plan.layers for name in layer.packages)
    weights = sum(one.size for one in plan.weights)
    return round(packages * _COPIES + weights * _WEIGHT_COPIES + _REST)
