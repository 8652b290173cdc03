"""The base image's name: always `python:X.Y-slim-<Debian release>`, where no registry is named from Docker Hub."""

from mlship.project.config import Config


def base_name(config: Config) -> str:
    """Name and tag without registry, as mlship.lock records it: `python:3.11-slim-bookworm`."""
    return f"python:{config.python}-slim-{config.base.distro}"


def base_reference(config: Config) -> str:
    """Name and tag as the engine pulls it, from the mirror where there is one."""
    return f"{config.base.mirror}/library/{base_name(config)}" if config.base.mirror else base_name(config)
