"""`mlship.yaml` as a value: the keys, their defaults and what is refused.

Reading the file and turning a refusal into file, line and key is `mlship.project.load`'s work.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from packaging.utils import canonicalize_name
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from mlship.project.commands import PORT, is_shell
from mlship.units import bytes_of

MUSL_REFUSED = (
    "Alpine (musl) is refused: PyPI's ML wheels are built for glibc, so on musl they are compiled for "
    "the better part of an hour or are missing altogether, and NVIDIA's libraries do not load. "
    "Use bookworm or trixie"
)
_PLAIN = re.compile(r"[\w@%+=:,./ -]+")
_MUSL = re.compile(r"(?i)alpine|musl")
_SECRET = re.compile(r"(?i)(passw|secret|token|api_?key|credential|private_?key)")


def _relative(text: str) -> str:
    """A path inside the repository, in POSIX form, that needs no quoting anywhere."""
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts or "~" in path.parts[:1]:
        raise ValueError(f"{text!r} is not a path inside the repository")
    if not needs_no_quoting(text):
        raise ValueError(
            f"{text!r} has characters that are not safe in a Dockerfile "
            "(letters, digits, spaces and @%+=:,._/- are); rename the file"
        )
    return str(path)


def needs_no_quoting(path: str) -> bool:
    """The path stands for itself in a Dockerfile and a .dockerignore: no pattern, no variable, no second line."""
    return bool(_PLAIN.fullmatch(path)) and path == path.strip() and not path.startswith("-")


def _entry(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", text):
        raise ValueError(f"{text!r} is not of the form package.module:function")
    return text


def _route(text: str) -> str:
    if not re.fullmatch(r"/[\w./~%:-]*", text):
        raise ValueError(f"{text!r} is not the path of a URL, such as /health/ready")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*", text) or len(text) > 100:
        raise ValueError(f"{text!r} is no image name: lower-case letters and digits, with single . _ - between them")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,100}", text):
        raise ValueError(f"{text!r} cannot be an image tag: letters, digits, . _ - only")
    return text


def _size(text: str) -> str:
    bytes_of(text)
    return text


def _mirror(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9._/-]+)?", text):
        raise ValueError(f"{text!r} is not a registry such as registry.example.com or 127.0.0.1:5000/docker.io")
    return text.rstrip("/")


def _address(text: str) -> str:
    if not re.fullmatch(r"(https?|file)://[^\s@?#]+", text):
        raise ValueError(f"{text!r} is not an address such as https://mirror.example.com/whl (without a password)")
    return text.rstrip("/")


def _distribution(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", text):
        raise ValueError(f"{text!r} is not the name of a package")
    return str(canonicalize_name(text))


def _package(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", text):
        raise ValueError(f"{text!r} is not the name of a Debian package")
    return text


def _printable(text: str) -> str:
    if any(not c.isprintable() for c in text):
        raise ValueError("control characters and newlines are not allowed here")
    return text


def names_musl(value: object) -> bool:
    """Alpine, or another system on musl, is asked for here."""
    return isinstance(value, str) and bool(_MUSL.search(value))


def _no_musl(value: object) -> object:
    """Refuse Alpine wherever somebody would write it, with the reason; load.py does so under unknown keys."""
    if names_musl(value):
        raise ValueError(MUSL_REFUSED)
    return value


def _unquoted(value: object) -> object:
    """YAML reads an unquoted 3.11 as a number; nothing else than "3.11" can have been meant."""
    return str(value) if isinstance(value, float) else _no_musl(value)


RepoPath = Annotated[str, AfterValidator(_relative)]
PlainPath = Annotated[RepoPath, Field(pattern=r"^[\w./-]+$")]  # stands in a --mount option, where commas separate
Entry = Annotated[str, AfterValidator(_entry)]
Route = Annotated[str, AfterValidator(_route)]
Size = Annotated[str, AfterValidator(_size)]
Distribution = Annotated[str, AfterValidator(_distribution)]
DebianPackage = Annotated[str, AfterValidator(_package)]
Argument = Annotated[str, AfterValidator(_printable), Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """Every part of mlship.yaml: frozen, and no key that is not known."""

    # Built once, as part of the whole, when a file is read: that takes half as long as section by section.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Requirements(Section):
    """What pip-tools resolves, and the file that it writes."""

    input: PlainPath = Field("requirements.in", description="What you ask for; yours to edit.")
    lock: PlainPath = Field("requirements.txt", description="What `mlship lock` writes: every pin, with hashes.")

    @model_validator(mode="after")
    def _two_files(self) -> "Requirements":
        if self.lock in {"mlship.lock", "mlship.yaml"}:
            raise ValueError(f"lock is {self.lock}, which is a file of mlship's own; give it another name")
        if self.input == self.lock:
            raise ValueError("input and lock are the same file; the lock would overwrite what it is made from")
        return self


class AllowedPickle(Section):
    """One pickled file that somebody answers for."""

    path: RepoPath
    sha256: Sha256 = Field(description="Of the file; another file under the same name is refused again.")
    reason: Annotated[str, AfterValidator(_printable), Field(min_length=10, max_length=300)]


class Model(Section):
    """How the model is loaded and what it is expected to say."""

    load: Entry = Field(
        description="package.module:function without arguments. It returns the predictor: a callable, or an object "
        "with .predict, that takes the sample and returns numbers (nested lists, dicts, numpy arrays, torch tensors)."
    )
    weights: tuple[RepoPath, ...] = Field((), description="Weight files or folders; they get layers of their own.")
    sample: RepoPath = Field(description="A JSON file: the body of one valid request.")
    golden: RepoPath | None = Field(None, description="A JSON file: what the model must answer to the sample.")
    rtol: Annotated[float, Field(ge=0, le=1)] = Field(1e-3, description="Relative tolerance against golden.")
    atol: Annotated[float, Field(ge=0)] = Field(1e-5, description="Absolute tolerance against golden.")
    output_shape: tuple[Annotated[int, Field(ge=0)] | None, ...] | None = Field(
        None, description="Declared shape of the output, null where a dimension varies: [null, 10]."
    )
    allow_pickle: tuple[AllowedPickle, ...] = Field(
        (), description="Pickle is code, and refused. Each exception: path, sha256 and a reason (kept in the labels)."
    )


class Serve(Section):
    """The command that the container runs, and the routes that tell how it is."""

    command: Annotated[tuple[Argument, ...], Field(min_length=1)] = Field(description="Exec form; no shell.")
    port: Annotated[int, Field(ge=1025, le=65535)] = Field(PORT, description="Above 1024: the user is not root.")
    live: Route = Field("/health/live", description="200 as soon as the process answers.")
    ready: Route = Field("/health/ready", description="200 only after the model is loaded and warm.")
    predict: Route = Field("/predict", description="POST; takes the sample.")
    startup_seconds: Seconds = Field(60.0, description="Longest time from start to ready.")
    grace_seconds: Seconds = Field(10.0, description="Longest time from SIGTERM to exit.")

    @model_validator(mode="after")
    def _exec_form(self) -> "Serve":
        if is_shell(self.command):
            raise ValueError("command runs a shell, which would keep SIGTERM to itself; name the server directly")
        return self


class Base(Section):
    """The image underneath: always python:X.Y-slim of a Debian release, pinned by digest in mlship.lock."""

    distro: Annotated[Literal["bookworm", "trixie"], BeforeValidator(_no_musl)] = Field(
        "bookworm", description="Debian release of the image. Alpine is refused: musl has no ML wheels."
    )
    mirror: Annotated[str, AfterValidator(_mirror)] | None = Field(
        None, description="Registry that holds library/python; MLSHIP_BASE_MIRROR overrides it. Default: Docker Hub."
    )


class Gpu(Section):
    """What a model on NVIDIA GPUs needs; without this section the image is for the CPU."""

    hosts: RepoPath = Field(
        "hosts", description="Folder of host files (`mlship hosts record`): CUDA is matched to them."
    )
    wheel_index: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="Mirror of https://download.pytorch.org/whl, which has a folder for each CUDA (cu126, ...); "
        "MLSHIP_WHEEL_INDEX overrides it.",
    )
    compile: tuple[Distribution, ...] = Field(
        (), description="Locked packages without a wheel that nvcc has to compile. Well-known ones need no mention."
    )
    forward_compat: bool = Field(
        False,
        description="Ship NVIDIA's forward-compatibility libraries, for data-center GPUs with an older driver.",
    )


class System(Section):
    """Debian packages that no wheel brings."""

    build: tuple[DebianPackage, ...] = Field((), description="Only in the builder (compilers, headers).")
    run: tuple[DebianPackage, ...] = Field((), description="In the final image (shared libraries).")


class Smoke(Section):
    """Limits of the smoke test."""

    memory: Size = Field("2g", description="Memory limit of the container; beyond it the model is killed.")
    timeout_seconds: Seconds = Field(120.0, description="Longest time for loading and warming the model.")


def _given(value: object) -> object:
    """`gpu:` with nothing behind it asks for a GPU too."""
    return {} if value is None else value


def _environment(env: dict[str, str]) -> dict[str, str]:
    for key, value in env.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", key):
            raise ValueError(f"{key!r} is not the name of an environment variable")
        if _SECRET.search(key):
            raise ValueError(f"{key} looks like a secret; what stands in an image can be read by whoever pulls it")
        _printable(value)
    return env


class Config(Section):
    """mlship.yaml: what is shipped, and how it is known to work."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, title="mlship.yaml")

    name: Annotated[str, AfterValidator(_name)] = Field(description="Name of the image.")
    version: Annotated[str, AfterValidator(_version)] | None = Field(
        None, description="Tag of the image. Default: what `git describe` says."
    )
    python: Annotated[Literal["3.11", "3.12", "3.13", "3.14"], BeforeValidator(_unquoted)] = Field(
        "3.11", description="Python of the image: major and minor."
    )
    platform: Literal["linux/amd64", "linux/arm64"] = Field(
        "linux/amd64", description="What the lock is resolved for and the image is built for."
    )
    requirements: Requirements = Field(default_factory=Requirements)
    model: Model
    serve: Serve
    source: Annotated[tuple[RepoPath, ...], Field(min_length=1)] = Field(
        description="Files and folders of your code that go into the image; nothing else does."
    )
    keep: tuple[Pattern, ...] = Field(
        (),
        description="Files of packages, as patterns below site-packages, that stay in the image. Left out are test "
        'folders that nothing imports, C headers and static archives. "*" keeps everything.',
    )
    env: Annotated[dict[str, str], AfterValidator(_environment)] = Field(
        default_factory=dict, description="Environment of the image. Never secrets."
    )
    base: Annotated[Base, BeforeValidator(_no_musl)] = Field(default_factory=Base)
    gpu: Annotated[Gpu | None, BeforeValidator(_given)] = Field(
        None,
        description="Present, even if empty: the model runs on NVIDIA GPUs, and the smoke test proves that it does.",
    )
    system: System = Field(default_factory=System)
    smoke: Smoke = Field(default_factory=Smoke)

    @model_validator(mode="after")
    def _loader_is_left_alone(self) -> "Config":
        if self.gpu and "LD_LIBRARY_PATH" in self.env:
            raise ValueError(
                "env.LD_LIBRARY_PATH is refused where the model runs on GPUs: "
                "it would win over the wheels' own libraries and the host's driver; "
                "the image's loader finds CUDA without it"
            )
        return self


def json_schema() -> dict[str, JsonValue]:
    """The JSON schema of mlship.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
