"""What a smoke test needs to know about an image; stored in an image label, so an image can be tested anywhere."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.project.config import Config
from mlship.project.request import SampleRequest
from mlship.units import bytes_of
from mlship.versioned import adapter, parse_versioned

LABEL = "dev.mlship.smoke"
SCHEMA = 1
Device: TypeAlias = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class SmokeSpec:
    """How to load, call and serve the model of an image. Paths are relative to the image's working directory.

    Attributes:
        load: None if only the server is tested.
        sample: input of the loaded model; None if there is none.
        request: None sends the sample to the predict route.
        env: names of variables that the containers get only for the test; the values are never part of an image.
        shm: bytes of /dev/shm; None is the engine's default.
        memory: limit of the container, in bytes.
        load_seconds: limit for import, load and warm-up together.
        output_shape: declared shape, with None for a dimension of any size; None if nothing is declared.
        gpu: the image is built for a GPU; a label without the field means that it is not.
        capabilities: compute capabilities of the hosts that it is built for; empty where one is unknown.
    """

    load: str | None
    weights: tuple[str, ...]
    sample: str | None
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
    capabilities: tuple[str, ...] = ()
    request: SampleRequest | None = None
    env: tuple[str, ...] = ()
    shm: int | None = None
    schema: int = SCHEMA

    @property
    def asked(self) -> SampleRequest:
        """The request that proves the server."""
        return self.request or SampleRequest("POST", self.predict, self.sample)

    @property
    def device(self) -> Device:
        """The device that the image is built for."""
        return "gpu" if self.gpu else "cpu"

    @property
    def loader(self) -> tuple[str, str]:
        """Module and function of `load`; empty without it."""
        module, _, function = (self.load or "").partition(":")
        return module, function

    def to_json(self) -> str:
        return adapter(SmokeSpec).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "SmokeSpec":
        """Read a label.

        Raises:
            UsageError: the label is invalid, or was written by a newer mlship.
        """
        hint = "update mlship, or build the image again with `mlship build`"
        return parse_versioned(text, SmokeSpec, SCHEMA, f"invalid image label `{LABEL}`", hint)

    @staticmethod
    def from_config(config: Config, capabilities: tuple[str, ...] = ()) -> "SmokeSpec":
        """The settings of mlship.yaml, and the compute capabilities of the matched hosts."""
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
            capabilities=capabilities,
            request=config.asked if config.smoke.request else None,
            env=tuple(sorted(config.smoke.env)),
            shm=bytes_of(config.smoke.shm) if config.smoke.shm else None,
        )
