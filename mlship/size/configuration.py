"""The configuration of an image: what it runs, and the steps that built it.

https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
"""

from collections.abc import Mapping

from pydantic import BaseModel, Field, ValidationError

from mlship.errors import UsageError


class ImagePlatform(BaseModel):
    os: str = "unknown"
    architecture: str = "unknown"


class _Step(BaseModel):
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class _RootFs(BaseModel):
    diff_ids: list[str]


class _Health(BaseModel):
    test: list[str] | None = Field(None, alias="Test")


class RunConfig(BaseModel):
    """How an image runs; the engine writes null for empty values."""

    user: str | None = Field(None, alias="User")
    env: list[str] | None = Field(None, alias="Env")
    entrypoint: list[str] | None = Field(None, alias="Entrypoint")
    cmd: list[str] | None = Field(None, alias="Cmd")
    working_dir: str | None = Field(None, alias="WorkingDir")
    labels: dict[str, str] | None = Field(None, alias="Labels")
    healthcheck: _Health | None = Field(None, alias="Healthcheck")

    @property
    def command(self) -> tuple[str, ...]:
        """Entrypoint and command together."""
        return (*(self.entrypoint or ()), *(self.cmd or ()))

    @property
    def variables(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.env or () if "=" in entry)


class ImageConfig(ImagePlatform):
    """An image's configuration: what it runs, and the steps that built it."""

    rootfs: _RootFs
    config: RunConfig | None = None
    history: list[_Step] | None = None

    @property
    def running(self) -> RunConfig:
        return self.config or RunConfig()

    @property
    def platform(self) -> str:
        return f"{self.os}/{self.architecture}"

    @property
    def labels(self) -> Mapping[str, str]:
        return self.running.labels or {}

    @property
    def layer_steps(self) -> list[str | None]:
        """Each layer's build step; None for all if history and layers do not match."""
        steps = [step.created_by or step.comment for step in self.history or () if not step.empty_layer]
        count = len(self.rootfs.diff_ids)
        return steps if len(steps) == count else [None] * count


def image_config(document: bytes) -> ImageConfig:
    """Read an image's configuration.

    Raises:
        BrokenTarError: it is none.
        UsageError: it is that of another artifact.
    """
    from mlship.size.stream import BrokenTarError  # imported here: each build reads how its image runs, and no tar

    try:
        return ImageConfig.model_validate_json(document)
    except ValidationError as error:
        if any(one["loc"] == ("rootfs",) for one in error.errors()):  # a model or a chart, which registries keep, too
            raise UsageError(
                "this is not a container image: its configuration has no `rootfs`", hint="name an image or a Dockerfile"
            ) from error
        raise BrokenTarError(f"its configuration is not valid: {error.errors()[0]['msg']}") from error
