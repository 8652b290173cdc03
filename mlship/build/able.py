"""Can this engine do what is asked of it? Refused before minutes of building, not after."""

from mlship.engine.base import Engine
from mlship.errors import EngineError, UsageError


def check_keeps_manifests(engine: Engine) -> None:
    """Refuse an engine whose image store keeps no digests.

    Raises:
        EngineError: it has Docker's older image store.
    """
    if not engine.info().keeps_manifests:
        raise EngineError(
            "this engine's image store keeps no digest: it makes an image's manifest anew on each push, "
            "so --reproducible could promise nothing",
            hint='set {"features": {"containerd-snapshotter": true}} in /etc/docker/daemon.json and restart the engine '
            "(Docker Desktop: Settings, General, containerd), or leave --reproducible out",
        )


def check_testable(engine: Engine, platform: str) -> None:
    """Refuse an engine that does not run images of a platform itself.

    Raises:
        UsageError: it runs another platform.
    """
    native = engine.info().platform
    if native != platform:
        raise UsageError(
            f"the image is for {platform} and this engine runs {native}, so it cannot be tested here",
            hint="build on a machine of that kind, or add --no-smoke and test there with `mlship smoke`",
        )
