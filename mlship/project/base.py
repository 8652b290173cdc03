"""The base image: always `python:X.Y-slim-<Debian release>`, from Docker Hub or a mirror."""

import platform
from typing import get_args

from mlship.project.config import Config

PLATFORMS: tuple[str, ...] = get_args(Config.model_fields["platform"].annotation)
_PROCESSORS = {"x86_64": "linux/amd64", "AMD64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}


def base_name(config: Config) -> str:
    """Name and tag without registry, as in mlship.lock: `python:3.11-slim-bookworm`."""
    return f"python:{config.python}-slim-{config.base.distro}"


def base_reference(config: Config) -> str:
    """Name and tag as the engine pulls it, from the mirror if one is set."""
    return f"{config.base.mirror}/library/{base_name(config)}" if config.base.mirror else base_name(config)


def cuda_reference(config: Config, name: str) -> str:
    """An image of NVIDIA's, such as nvidia/cuda:12.6.3-runtime-ubuntu22.04, from the mirror if one is set."""
    return f"{config.base.mirror}/{name}" if config.base.mirror else name


def this_platform() -> str | None:
    """The platform whose images this machine runs; None for an unsupported processor."""
    return _PROCESSORS.get(platform.machine())
