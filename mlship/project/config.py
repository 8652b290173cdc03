"""`mlship.yaml` as a value: keys, defaults and validation. `mlship.project.load` reads the file and reports errors."""

import re
from datetime import date
from functools import cache
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from mlship.project.commands import PORT, is_shell
from mlship.project.request import Request, SampleRequest, Text
from mlship.project.values import (
    Argument,
    DebianPackage,
    Distribution,
    Entry,
    Pattern,
    PlainPath,
    RepoPath,
    Route,
    Seconds,
    Section,
    Sha256,
    Size,
    matching,
    printable,
)
from mlship.project.weight_addresses import WeightAddress

PythonVersion: TypeAlias = Literal["3.11", "3.12", "3.13", "3.14"]
PYTHONS: tuple[str, ...] = get_args(PythonVersion)
MUSL_REFUSED = (
    "Alpine (musl) is not supported: PyPI's ML wheels are built for glibc, so on musl they compile for most of an hour "
    "or do not exist, and NVIDIA's libraries do not load. Use bookworm or trixie"
)
_MUSL = re.compile(r"(?i)alpine|musl")
VARIABLE = r"[A-Za-z_]\w*"  # the name of an environment variable
SECRET = re.compile(r"(?i)(passw|secret|token|api_?key|credential|private_?key)")


_NAME = matching(
    r"(?=.{1,100}\Z)[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*",
    "is not an image name: use lower-case letters, digits and single . _ -",
)
_TAG = matching(r"[A-Za-z0-9_][\w.-]{0,100}", "is not an image tag: use letters, digits, . _ - only")
_MIRROR = matching(
    r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9._/-]+)?",
    "is not a registry such as registry.example.com or 127.0.0.1:5000/docker.io",
)
_ADDRESS = matching(
    r"(https?|file)://[^\s@?#]+", "is not an address such as https://mirror.example.com/whl (without a password)"
)
_WITHOUT_SLASH = AfterValidator(lambda text: text.rstrip("/"))


def names_musl(value: object) -> bool:
    """Whether a value names Alpine or another musl system."""
    return isinstance(value, str) and bool(_MUSL.search(value))


def _no_musl(value: object) -> object:
    """Refuse Alpine with the reason wherever it may be written; load.py does so for unknown keys."""
    if names_musl(value):
        raise ValueError(MUSL_REFUSED)
    return value


def _unquoted(value: object) -> object:
    """Accept an unquoted 3.11, which YAML reads as a number."""
    return str(value) if isinstance(value, float) else _no_musl(value)


class Requirements(Section):
    """The requirements to lock, and the lock."""

    input: PlainPath = Field("requirements.in", description="The packages you need; yours to edit.")
    lock: PlainPath = Field("requirements.txt", description="The lock, written by `mlship lock`, with hashes.")

    @model_validator(mode="after")
    def _two_files(self) -> "Requirements":
        if self.lock in {"mlship.lock", "mlship.yaml"}:
            raise ValueError(f"lock is {self.lock}, a file that mlship uses itself; choose another name")
        if self.input == self.lock:
            raise ValueError("input and lock are the same file, so the lock would overwrite its own input")
        return self


class AllowedPickle(Section):
    """A pickled file that is allowed."""

    path: RepoPath
    sha256: Sha256 = Field(description="Hash of the file; another file of that name is refused.")
    reason: Annotated[str, Field(min_length=10, max_length=300), AfterValidator(printable)]
    until: date | None = Field(None, description="Last day on which the file is allowed, as YYYY-MM-DD.")
    trusted: tuple[Argument, ...] = Field(
        (),
        description="Classes and functions, as module.name, that loading the file may use beside those of known "
        "frameworks. A skops or Keras file needs an entry only for these.",
    )


class Model(Section):
    """How to load the model, and the output to expect."""

    load: Entry | None = Field(
        None,
        description="package.module:function without arguments. It returns the predictor: a callable, or an object "
        "with .predict. The predictor takes the sample and returns numbers (nested lists, dicts, numpy arrays or torch "
        "tensors). Without it, only the server is tested.",
    )
    weights: tuple[RepoPath, ...] = Field((), description="Model files or folders; they get image layers of their own.")
    sources: dict[RepoPath, WeightAddress] = Field(
        default_factory=dict,
        description="Where model files come from that are not in git, by path: https://HOST/FILE, "
        "hf://OWNER/NAME@REVISION/FILE, s3://BUCKET/KEY, oci://REGISTRY/NAME@sha256:DIGEST#FILE or "
        "file:///FOLDER/FILE. `mlship lock` records their hashes.",
    )
    metadata: RepoPath | None = Field(
        None,
        description="The record of the training, which `training_record.py` writes: the build fails if the image has "
        "other major or minor versions of its libraries, or other files.",
    )
    sample: RepoPath | None = Field(
        None,
        description="A file with one valid input: the predictor takes its JSON value, or its bytes if it is not named "
        "`.json`. The server gets the file as the body of a POST, unless `smoke.request` is another request.",
    )
    golden: RepoPath | None = Field(None, description="A JSON file with the expected output for the sample.")
    rtol: Annotated[float, Field(ge=0, le=1)] = Field(1e-3, description="Relative tolerance against golden.")
    atol: Annotated[float, Field(ge=0)] = Field(1e-5, description="Absolute tolerance against golden.")
    output_shape: tuple[Annotated[int, Field(ge=0)] | None, ...] | None = Field(
        None, description="Expected shape of the output, with null for a dimension that varies: [null, 10]."
    )
    allow_pickle: tuple[AllowedPickle, ...] = Field(
        (), description="Pickle files to allow although they run code when loaded; the image's labels keep the reasons."
    )

    @model_validator(mode="after")
    def _input(self) -> "Model":
        if self.load and self.sample is None:
            raise ValueError("sample is missing: name a file with one valid input for what `load` returns")
        return self


class Serve(Section):
    """The command that the container runs, and its HTTP routes."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1)] = Field(description="Exec form; no shell.")
    port: Annotated[int, Field(ge=1025, le=65535)] = Field(PORT, description="Above 1024: the user is not root.")
    live: Route = Field("/health/live", description="Liveness probe: 200 as soon as the process responds.")
    ready: Route = Field("/health/ready", description="Readiness probe: 200 once the model is loaded and warm.")
    predict: Route = Field("/predict", description="Prediction route: accepts a POST of the sample.")
    startup_seconds: Seconds = Field(60.0, description="Time limit from start to ready.")
    grace_seconds: Seconds = Field(10.0, description="Time limit from SIGTERM to exit.")

    @model_validator(mode="after")
    def _exec_form(self) -> "Serve":
        if is_shell(self.command):
            raise ValueError("command runs a shell, which would not forward SIGTERM; name the server directly")
        return self


class Base(Section):
    """The base image: always python:X.Y-slim of a Debian release, pinned by digest in mlship.lock."""

    distro: Annotated[Literal["bookworm", "trixie"], BeforeValidator(_no_musl)] = Field(
        "bookworm", description="Debian release of the image. Alpine is not supported: there are no ML wheels for musl."
    )
    mirror: Annotated[str, _MIRROR, _WITHOUT_SLASH] | None = Field(
        None, description="Registry with library/python; MLSHIP_BASE_MIRROR overrides it. Default: Docker Hub."
    )


class Gpu(Section):
    """Settings for NVIDIA GPUs; without this section the image is for the CPU."""

    hosts: RepoPath = Field(
        "hosts", description="Folder of host files (`mlship hosts record`), which CUDA is matched to."
    )
    wheel_index: Annotated[str, _ADDRESS, _WITHOUT_SLASH] | None = Field(
        None,
        description="Mirror of https://download.pytorch.org/whl, with a folder for each CUDA (cu126, ...); "
        "MLSHIP_WHEEL_INDEX overrides it.",
    )
    compile: tuple[Distribution, ...] = Field(
        (), description="Locked packages without a wheel that nvcc has to compile; common ones are detected."
    )
    forward_compat: bool = Field(
        False, description="Ship NVIDIA's forward-compatibility libraries, for data-center GPUs with an older driver."
    )


class System(Section):
    """Debian packages that the wheels do not include."""

    build: tuple[DebianPackage, ...] = Field((), description="Only for the build, such as compilers and headers.")
    run: tuple[DebianPackage, ...] = Field((), description="In the final image, such as shared libraries.")


def _environment(env: dict[str, str | None]) -> dict[str, str | None]:
    for key, value in env.items():
        if not re.fullmatch(VARIABLE, key):
            raise ValueError(f"{key!r} is not a name for an environment variable")
        printable(value or "")
    return env


class Smoke(Section):
    """The smoke test: its request, limits and environment."""

    request: Request | None = Field(
        None, description="The request that proves the server. Default: the sample, sent to `serve.predict`."
    )
    env: Annotated[dict[str, Text | None], AfterValidator(_environment)] = Field(
        default_factory=dict,
        description="Environment variables for the test only, such as test credentials: never in the image. `null` "
        "takes the value from the environment of `mlship`.",
    )
    memory: Size = Field("2g", description="Memory limit of the container; exceeding it kills the model.")
    shm: Size | None = Field(
        None,
        description="Size of /dev/shm, such as 1g, for PyTorch workers and other shared memory. Default: the engine's, "
        "64m. The deployment needs the same: `docker run --shm-size`, or an `emptyDir` with `medium: Memory`.",
    )
    timeout_seconds: Seconds = Field(120.0, description="Time limit for loading and warming the model.")


def _given(value: object) -> object:
    """Accept `gpu:` without keys."""
    return {} if value is None else value


def _no_secrets(env: dict[str, str]) -> dict[str, str]:
    for key in filter(SECRET.search, env):
        raise ValueError(
            f"{key} looks like a secret; everyone who pulls the image could read it "
            "(a value for the smoke test only belongs in `smoke.env`)"
        )
    return env


class Config(Section):
    """mlship.yaml: what to ship, and how to test it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, title="mlship.yaml")

    name: Annotated[str, _NAME] = Field(description="Name of the image.")
    version: Annotated[str, _TAG] | None = Field(
        None, description="Tag of the image. Default: the output of `git describe`."
    )
    python: Annotated[PythonVersion, BeforeValidator(_unquoted)] = Field(
        "3.11", description="Python version of the image: major and minor."
    )
    platform: Literal["linux/amd64", "linux/arm64"] = Field(
        "linux/amd64", description="Platform of the lock and the image."
    )
    requirements: Requirements = Field(default_factory=Requirements)
    model: Annotated[Model, BeforeValidator(_given)] = Field(default_factory=Model)
    serve: Serve
    source: Annotated[tuple[RepoPath, ...], Field(min_length=1)] = Field(
        description="Files and folders of your code to put in the image; nothing else is copied."
    )
    allow_credentials: tuple[RepoPath, ...] = Field(
        (),
        description="Shipped files that may hold what looks like a credential, such as test data. Everyone who pulls "
        "the image can read them.",
    )
    keep: tuple[Pattern, ...] = Field(
        (),
        description="Patterns below site-packages of files to keep. By default the image leaves out test folders that "
        'nothing imports, C headers and static archives; "*" keeps everything.',
    )
    env: Annotated[dict[str, str], AfterValidator(_environment), AfterValidator(_no_secrets)] = Field(
        default_factory=dict, description="Environment variables of the image. Never put secrets here."
    )
    base: Annotated[Base, BeforeValidator(_no_musl)] = Field(default_factory=Base)
    gpu: Annotated[Gpu | None, BeforeValidator(_given)] = Field(
        None,
        description="If present, even empty: the model runs on NVIDIA GPUs, and the smoke test checks that it does.",
    )
    system: System = Field(default_factory=System)
    smoke: Smoke = Field(default_factory=Smoke)

    @model_validator(mode="after")
    def _loader_is_left_alone(self) -> "Config":
        if self.gpu and "LD_LIBRARY_PATH" in self.env:
            raise ValueError(
                "env.LD_LIBRARY_PATH cannot be set for a model on GPUs: it would override the wheels' libraries and "
                "the host's driver; the image finds CUDA without it"
            )
        return self

    @model_validator(mode="after")
    def _something_to_test(self) -> "Config":
        if self.model.sample is None and self.smoke.request is None:
            raise ValueError(
                "nothing to test with: name a file with one valid input as `model.sample`, or describe a request to "
                "the server as `smoke.request`"
            )
        if self.model.load is None and (self.gpu or self.model.golden or self.model.output_shape is not None):
            key = "gpu" if self.gpu else "model.golden" if self.model.golden else "model.output_shape"
            raise ValueError(f"{key} needs model.load: only a loaded model can be examined, not the server's process")
        return self

    @model_validator(mode="after")
    def _test_values(self) -> "Config":
        unknown = sorted((self.smoke.request.variables if self.smoke.request else set()) - self.smoke.env.keys())
        if unknown:
            raise ValueError(f"smoke.request uses ${{{unknown[0]}}}, which is not under smoke.env")
        shipped = sorted(self.env.keys() & self.smoke.env.keys())
        if shipped:
            raise ValueError(f"{shipped[0]} is under env and smoke.env: the test would not use what the image ships")
        return self

    @property
    def asked(self) -> SampleRequest:
        """The request that proves the server."""
        request = self.smoke.request
        if request is None:
            return SampleRequest("POST", self.serve.predict, self.model.sample)
        return request.resolved(self.serve.predict)

    @property
    def test_files(self) -> tuple[str, ...]:
        """Files of the repository that only the smoke test reads; the image holds them."""
        named = (self.model.sample, self.model.golden, *(self.smoke.request.paths if self.smoke.request else ()))
        return tuple(dict.fromkeys(path for path in named if path))


@cache
def config_schema() -> dict[str, JsonValue]:
    """The JSON schema of mlship.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
