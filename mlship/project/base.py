"""The base image: always `python:X.Y-slim-<Debian release>`, from Docker Hub or a mirror."""

import platform
from pathlib import PurePosixPath
from typing import get_args

from mlship.errors import UsageError
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


def for_platform(config: Config, target: str | None) -> Config:
    """The configuration for a platform; one that mlship.yaml does not name has a lock of its own.

    Raises:
        UsageError: mlship builds no images for the platform.
    """
    if target is None or target == config.platform:
        return config
    if target not in PLATFORMS:
        raise UsageError(f"unsupported platform `{target}`", hint=f"use {' or '.join(PLATFORMS)}")
    lock = PurePosixPath(config.requirements.lock)
    own = lock.with_stem(f"{lock.stem}.{platform_suffix(target)}")
    requirements = config.requirements.model_copy(update={"lock": str(own)})
    return config.model_copy(update={"platform": target, "requirements": requirements})


def platform_suffix(name: str) -> str:
    """A platform in a file name or a tag, such as linux-arm64."""
    return name.replace("/", "-")


def record_name(config: Config) -> str:
    """The file beside the lock: mlship.lock, or mlship.linux-arm64.lock for a platform of its own."""
    suffix = platform_suffix(config.platform)
    return f"mlship.{suffix}.lock" if f".{suffix}" in config.requirements.lock else "mlship.lock"


def this_platform() -> str | None:
    """The platform whose images this machine runs; None for an unsupported processor."""
    return _PROCESSORS.get(platform.machine())
