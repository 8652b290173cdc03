"""What a smoke test needs to know about an image; stored in an image label, so an image can be tested anywhere."""

from dataclasses import dataclass

from mlship.project.config import Config
from mlship.units import bytes_of
from mlship.versioned import adapter, parse

LABEL = "dev.mlship.smoke"
SCHEMA = 1


@dataclass(frozen=True)
class SmokeSpec:
    """How to load, call and serve the model of an image. Paths are relative to the image's working directory.

    Attributes:
        memory: limit of the container, in bytes.
        load_seconds: limit for import, load and warm-up together.
        output_shape: declared shape, with None for a dimension of any size; None if nothing is declared.
        gpu: the image is built for a GPU; a label without the field means that it is not.
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
        return adapter(SmokeSpec).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "SmokeSpec":
        """Read a label.

        Raises:
            UsageError: the label is invalid, or was written by a newer mlship.
        """
        hint = "update mlship, or build the image again with `mlship build`"
        return parse(text, SmokeSpec, SCHEMA, f"invalid image label `{LABEL}`", hint)

    @staticmethod
    def from_config(config: Config) -> "SmokeSpec":
        """The settings of mlship.yaml."""
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
