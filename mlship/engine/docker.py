"""The Docker Engine: the SDK for containers and registries, the docker program for builds and quick questions."""

import re

from mlship.background import in_background
from mlship.engine.base import EngineInfo, ImageInfo
from mlship.engine.buildx import run_buildx
from mlship.engine.client import buildx_version, disk, image, image_environment, image_history, tag, untag
from mlship.engine.sdk import (
    connected,
    container_errors,
    container_output,
    push,
    remove,
    resolve_image,
    save,
    send_signal,
    start,
    wait,
)
from mlship.errors import EngineError
from mlship.known_texts import phrase
from mlship.process import ProcessError

OLDEST_ENGINE = 23  # the first whose own front end supports every Dockerfile feature that mlship uses


class DockerEngine:
    """The verbs of `mlship.engine.base.Engine`.

    Each verb opens a connection of its own: verbs may be used from several threads, and there is nothing to close.
    """

    build = staticmethod(run_buildx)
    disk = staticmethod(disk)
    history = staticmethod(image_history)
    image_environment = staticmethod(image_environment)
    resolve = staticmethod(resolve_image)
    tag = staticmethod(tag)
    untag = staticmethod(untag)
    push = staticmethod(push)
    save = staticmethod(save)
    start = staticmethod(start)
    output = staticmethod(container_output)
    errors = staticmethod(container_errors)
    wait = staticmethod(wait)
    signal = staticmethod(send_signal)
    remove = staticmethod(remove)

    def info(self) -> EngineInfo:
        buildx = in_background(buildx_version)  # takes as long as importing the SDK
        try:
            with connected() as client:
                version = client.version()
                info = client.info()
        except EngineError:
            buildx.result()  # a missing docker program has to be fixed first
            raise
        names = [component["Name"] for component in version.get("Components") or ()]
        _check_engine("Podman" if any("Podman" in name for name in names) else "Docker Engine", version["Version"])
        return EngineInfo(
            version["Version"],
            buildx.result(),
            f"{version['Os']}/{version['Arch']}",
            rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
            keeps_manifests=any("containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or ()),
        )

    def image(self, reference: str) -> ImageInfo | None:
        try:
            return image(reference)
        except EngineError as error:
            if isinstance(error.__cause__, ProcessError):  # waiting once is enough
                raise
            with connected():  # the SDK gives a more exact reason, if it cannot connect either
                raise


def _check_engine(name: str, version: str) -> None:
    major = re.match(r"\d+", version)
    if name == "Podman" or (major and int(major[0]) < OLDEST_ENGINE):
        raise EngineError(
            f"unsupported engine: {name} {version} (mlship needs Docker Engine {OLDEST_ENGINE} or newer)",
            hint=phrase("install_docker"),
        )
