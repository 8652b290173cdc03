"""The door to the container engine: no other package names an engine's class."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlship.engine.base import Engine
    from mlship.engine.look import EngineLook


def connect() -> "Engine":
    """The engine that DOCKER_HOST, DOCKER_CONTEXT or Docker's configuration selects; it connects when first used."""
    from mlship.engine.docker import DockerEngine

    return DockerEngine()


def connect_read_only() -> "EngineLook":
    """The same engine, to be inspected without changing it."""
    from mlship.engine.look import EngineLook

    return EngineLook()


def connect_to_container(name: str) -> "EngineLook":
    """The engine that has this container, to be inspected: docker's, else podman's or nerdctl's."""
    from mlship.engine.look import CLIENTS, EngineLook

    lacks = {}
    for client in CLIENTS:
        lacks[client] = EngineLook(client).container(name).lack
        if lacks[client] is None:
            return EngineLook(client)
    return EngineLook(next((client for client in CLIENTS if lacks[client] != "no client"), CLIENTS[0]))
