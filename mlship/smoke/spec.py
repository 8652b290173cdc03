"""What a smoke test needs to know of an image. It travels in the image's labels, so an image can be tested anywhere."""

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from mlship.errors import UsageError
from mlship.project.config import Config
from mlship.units import bytes_of

LABEL = "dev.mlship.smoke"
SCHEMA = 1


@dataclass(frozen=True)
class SmokeSpec:
    """How to load, ask and serve the model of an image. Paths are relative to the image's working directory.

    Attributes:
        memory: limit of the container, bytes.
        load_seconds: limit for import, load and warm-up together.
        output_shape: declared shape, None for a dimension that varies; None as a whole: nothing declared.
        gpu: the image is made to run on a GPU; labels without it are of images that are not.
    """

    load: str
    weights: tuple[str, ...]
    sample: str
    golden: str | None
    rtol: float
    atol: float
    output_shape: tuple[int | None, ...] | None
    port: int
    live: str
    ready: str
    predict: str
    startup_seconds: float
    grace_seconds: float
    load_seconds: float
    memory: int
    gpu: bool = False
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The value of the label."""
        return _adapter().dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "SmokeSpec":
        """Read a label.

        Raises:
            UsageError: it is not ours, or of a newer mlship.
        """
        try:
            spec = _adapter().validate_json(text)
        except ValidationError as error:
            raise UsageError(
                f"the label {LABEL} of this image cannot be read ({error.error_count()} errors)",
                hint="build the image again with this mlship: `mlship build`",
            ) from error
        if spec.schema != SCHEMA:
            raise UsageError(
                f"this image was built by a newer mlship (smoke schema {spec.schema}, known: {SCHEMA})",
                hint="update mlship, or build the image again with this one",
            )
        return spec

    @staticmethod
    def from_config(config: Config) -> "SmokeSpec":
        """What mlship.yaml says of it."""
        model, serve = config.model, config.serve
        return SmokeSpec(
            load=model.load,
            weights=model.weights,
            sample=model.sample,
            golden=model.golden,
            rtol=model.rtol,
            atol=model.atol,
            output_shape=model.output_shape,
            port=serve.port,
            live=serve.live,
            ready=serve.ready,
            predict=serve.predict,
            startup_seconds=serve.startup_seconds,
            grace_seconds=serve.grace_seconds,
            load_seconds=config.smoke.timeout_seconds,
            memory=bytes_of(config.smoke.memory),
            gpu=config.gpu is not None,
        )


@cache
def _adapter() -> TypeAdapter[SmokeSpec]:
    return TypeAdapter(SmokeSpec)
