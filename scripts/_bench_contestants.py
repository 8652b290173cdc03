"""The contestants: mlship, its peers and two controls, all with the same model, pins and base image."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from _machine import last_lines, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
REPOS = ROOT / "scripts/benchmark_repos"
PYTHON = "3.11"
WEIGHTS_BYTES = 4 << 20
STEP_LIMIT = 1200.0


class CannotRunError(Exception):
    """This contestant cannot be measured; the message says why. It gets no number."""


@dataclass(frozen=True)
class State:
    """The content of a repository at one step; each step of the benchmark changes one field."""

    revision: str = "0"
    uvicorn: str = "0.53.0"
    scipy: str = "1.17.0"
    weights: int = 0

    @property
    def pins(self) -> str:
        """requirements.txt with the versions of the two packages that change."""
        own = {"uvicorn": self.uvicorn, "scipy": self.scipy}
        lines = (REPOS / "common/requirements.txt").read_text().splitlines()
        named = ((line.partition("==")[0], line) for line in lines)
        return "".join(f"{name}=={own[name]}\n" if name in own else f"{line}\n" for name, line in named)


COLD = State()
EDIT = State(revision="1")
LIGHT = State(revision="1", uvicorn="0.54.0")
HEAVY = State(revision="1", uvicorn="0.54.0", scipy="1.17.1")
WEIGHTS = State(revision="1", uvicorn="0.54.0", scipy="1.17.1", weights=1)
STEPS = {"cold": COLD, "edit": EDIT, "light": LIGHT, "heavy": HEAVY, "weights": WEIGHTS}


@dataclass(frozen=True)
class Serving:
    """How to request a prediction, and the flags that a read-only root needs."""

    port: int
    path: str = "/predict"
    flags: tuple[str, ...] = ()
    wrap: str = ""  # the key of the request in the body

    def body(self) -> bytes:
        sample = json.loads((REPOS / "common/sample.json").read_text())
        return json.dumps({self.wrap: sample} if self.wrap else sample).encode()


@dataclass(frozen=True)
class Place:
    """The folder, environment and registry that the contestants work with."""

    work: Path
    env: Mapping[str, str]
    base_mirror: str
    mlship: Sequence[str]

    def call(self, argv: Sequence[str], cwd: Path, **env: str) -> str:
        """Run to the end; a failure is a CannotRunError with the command's output."""
        done = run(
            [
                "env",
                "-C",
                str(cwd),
                *_unset(),
                *(f"{key}={value}" for key, value in {**self.env, **env}.items()),
                *argv,
            ],
            limit=STEP_LIMIT,
        )
        if not done.ok:
            command = " ".join(Path(word).name for word in argv[:4])
            raise CannotRunError(f"`{command}` failed ({done.code}): {error_lines(done.out + done.err)}")
        return done.out

    def venv(self, name: str, *packages: str) -> Path:
        """Create a virtual environment, install the packages in it, and return its bin folder."""
        folder = self.work / "venv" / name
        if not folder.exists():
            self.call([sys.executable, "-m", "venv", str(folder)], self.work)
        if packages:
            uv = [str(self.venv("uv") / "uv"), "pip", "install", "--quiet", "--python", str(folder / "bin/python")]
            uv.append("--compile-bytecode")  # as pip does, and `PYTHONDONTWRITEBYTECODE` may be set here
            if not (self.work / "venv/uv/bin/uv").exists():
                self.call([str(self.work / "venv/uv/bin/pip"), "install", "--quiet", "uv"], self.work)
            self.call([*uv, *packages], self.work)
        return folder / "bin"

    def version(self, programs: Path, package: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return self.call([str(programs / "python"), "-c", code], self.work).strip()


def error_lines(output: str, count: int = 8) -> str:
    """The last lines with "error:", since a traceback may follow them; without any, the last lines."""
    errors = [line for line in output.splitlines() if "error:" in line.lower()]
    return last_lines("\n".join(errors) or output, count)


def _unset() -> list[str]:
    """`env` options that unset the user's pip, uv and Docker settings, so that all get the same wheels."""
    prefixes, kept = (
        ("PIP_", "UV_", "DOCKER_", "BUILDX_", "BUILDKIT_"),
        {"PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"},
    )
    return [word for key in os.environ if key.startswith(prefixes) and key not in kept for word in ("-u", key)]


@dataclass
class Contestant:
    """One way to turn a repository into an image. Only `build` is timed."""

    place: Place
    name: str = ""
    kind: str = "control"
    serving: Serving = field(default_factory=lambda: Serving(8080))
    templates: tuple[str, ...] = ("common",)
    clock: str = ""
    version: str = ""
    notes: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Set up once, before any measurement."""

    def arrange(self, repo: Path, state: State) -> None:
        """Write the files of a state to the repository."""
        for name in self.templates:
            shutil.copytree(REPOS / name, repo, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (repo / "requirements.txt").write_text(state.pins)
        model = repo / "serving/model.py"
        model.write_text(model.read_text().replace('REVISION = "0"', f'REVISION = "{state.revision}"'))
        (repo / "weights").mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "examples/digits-onnx/repo/model.onnx", repo / "weights/model.onnx")
        (repo / "weights/table.safetensors").write_bytes(weights(state.weights))

    def build(self, repo: Path, tag: str) -> None:
        """Build the image and load it into the engine."""
        self.place.call(["docker", "build", "--tag", tag, "."], repo)

    def give_name(self, tag: str) -> None:
        """After `build`, not timed: give the image its tag if the tool has not."""


def weights(seed: int) -> bytes:
    """A safetensors file of incompressible bytes, which depend only on the seed."""
    header = {"table": {"dtype": "U8", "shape": [WEIGHTS_BYTES >> 10, 1 << 10], "data_offsets": [0, WEIGHTS_BYTES]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(WEIGHTS_BYTES)


class Mlship(Contestant):
    locked: tuple[State, ...] = (COLD, LIGHT, HEAVY)

    def __init__(self, place: Place) -> None:
        super().__init__(place, "mlship", "ours", templates=("common", "fastapi", "mlship"))
        self.clock = "mlship build --no-smoke"
        self._locks = place.work / "mlship-locks"

    def prepare(self) -> None:
        """Run `mlship lock` for every set of pins. Bytecode is compiled first, as pip does when it installs."""
        self.place.call([sys.executable, "-m", "compileall", "-q", str(ROOT / "mlship")], self.place.work)
        self.version = self._mlship("--version").split()[-1]
        for state in self.locked:
            repo = self._locks / self._key(state)
            self._write(repo, state)
            (repo / "requirements.txt").rename(repo / "requirements.in")
            self._mlship("lock", cwd=repo)

    def _write(self, repo: Path, state: State) -> None:
        super().arrange(repo, state)

    def arrange(self, repo: Path, state: State) -> None:
        self._write(repo, state)
        for name in ("requirements.in", "requirements.txt", "mlship.lock"):
            shutil.copyfile(self._locks / self._key(state) / name, repo / name)

    def build(self, repo: Path, tag: str) -> None:
        self._mlship("build", "--no-smoke", "--tag", tag, cwd=repo)

    def give_name(self, tag: str) -> None:
        """The image that mlship has not proven is named `unproven-TAG`."""
        name, _, version = tag.rpartition(":")
        self.place.call(["docker", "tag", f"{name}:unproven-{version}", tag], self.place.work)

    def build_reproducible(self, repo: Path, tag: str) -> None:
        """Build with --reproducible, which needs a commit: the same one in each folder."""
        when = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
        who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com")
        for argv in (("init", "--quiet"), ("add", "--all"), (*who, "commit", "--quiet", "--message", "benchmark")):
            self.place.call(["git", *argv], repo, **when)
        self._mlship("build", "--no-smoke", "--reproducible", "--tag", tag, cwd=repo)

    def has_reproducible(self) -> bool:
        return "--reproducible" in self._mlship("build", "--help")

    def bare(self, repo: Path, files: Path, tag: str) -> list[str]:
        """The argv of the `docker buildx build` that mlship would run."""
        helper = str(ROOT / "scripts/_bench_bare.py")
        output = self.place.call([self.place.mlship[0], helper, str(repo), str(files), tag], repo, **self._env)
        argv: list[str] = json.loads(output)
        return argv

    @property
    def _env(self) -> dict[str, str]:
        return {"MLSHIP_BASE_MIRROR": self.place.base_mirror, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def _mlship(self, *arguments: str, cwd: Path | None = None) -> str:
        return self.place.call([*self.place.mlship, *arguments], cwd or self.place.work, **self._env)

    @staticmethod
    def _key(state: State) -> str:
        return f"uvicorn-{state.uvicorn}-scipy-{state.scipy}"


class Torch(Mlship):
    """mlship with PyTorch's default wheels, which include gigabytes of CUDA libraries."""

    locked = (COLD, LIGHT)

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.name = "mlship-torch"

    def _write(self, repo: Path, state: State) -> None:
        super()._write(repo, state)
        with (repo / "requirements.txt").open("a") as file:
            file.write("torch\n")
        model = repo / "serving/model.py"
        model.write_text(
            model.read_text().replace("import pandas as pd\n", "import pandas as pd\nimport torch  # noqa: F401\n")
        )


class BentoML(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(
            place, "BentoML", "peer", Serving(3000, flags=("--env", "BENTOML_HOME=/tmp/bentoml")), ("common", "bentoml")
        )
        self.clock = "bentoml build; bentoml containerize"
        self.notes.append("started with BENTOML_HOME=/tmp/bentoml, where it writes, since the root is read-only")

    def prepare(self) -> None:
        pins = self.place.work / "bentoml-pins.txt"
        pins.write_text(COLD.pins)
        # `bentoml build` imports the service and its packages.
        self._programs = self.place.venv("bentoml", "bentoml", "uv", "-r", str(pins))
        self.version = self.place.version(self._programs, "bentoml")

    def build(self, repo: Path, tag: str) -> None:
        env = {
            "BENTOML_HOME": str(repo.with_name(f"{repo.name}-home")),
            "BENTOML_DO_NOT_TRACK": "True",
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        bentoml = str(self._programs / "bentoml")
        self.place.call([bentoml, "build"], repo, **env)
        self.place.call([bentoml, "containerize", "bench:latest", "--image-tag", tag], repo, **env)


class LitServe(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "LitServe", "peer", Serving(8000), ("common", "litserve"))
        self.clock = "docker build of the Dockerfile from `litserve dockerize` (not timed)"
        self.notes.append(
            "built with --build-arg PYTHON_VERSION=3.11, an argument of its Dockerfile; the default is 3.12"
        )

    def prepare(self) -> None:
        self._programs = self.place.venv("litserve", "litserve", "lightning-sdk")
        self.version = self.place.version(self._programs, "litserve")

    def arrange(self, repo: Path, state: State) -> None:
        super().arrange(repo, state)
        if not (repo / "Dockerfile").exists():
            self.place.call([str(self._programs / "litserve"), "dockerize", "server.py", "--port", "8000"], repo)

    def build(self, repo: Path, tag: str) -> None:
        argument = f"PYTHON_VERSION={PYTHON}"
        self.place.call(["docker", "build", "--build-arg", argument, "--tag", tag, "."], repo)


class MLflow(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "MLflow", "peer", templates=("common", "mlflow"))
        self.clock = "mlflow models build-docker (saving the model in MLflow's format is not timed)"
        self.notes.append(
            "built with --env-manager local, which uses python:3.11-slim; the default, ubuntu:24.04 with pyenv from"
            " GitHub and a PPA, would be slower and larger"
        )
        nginx = ("/var/log/nginx", "/var/lib/nginx", "/run")
        self.serving = Serving(
            8080, "/invocations", tuple(word for path in nginx for word in ("--tmpfs", path)), wrap="inputs"
        )
        self.notes.append(f"started with --tmpfs {' '.join(nginx)}, where nginx writes, since the root is read-only")

    def prepare(self) -> None:
        self._programs = self.place.venv("mlflow", "mlflow")
        self.version = self.place.version(self._programs, "mlflow")

    def arrange(self, repo: Path, state: State) -> None:
        super().arrange(repo, state)
        saved = repo / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        self.place.call([str(self._programs / "python"), "save.py", str(saved)], repo, **self._env)

    def build(self, repo: Path, tag: str) -> None:
        mlflow = str(self._programs / "mlflow")
        build = [mlflow, "models", "build-docker", "--env-manager", "local"]
        self.place.call([*build, "--model-uri", str(repo / "saved"), "--name", tag], repo, **self._env)

    @property
    def _env(self) -> dict[str, str]:
        return {"PATH": f"{self._programs}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}


class Blog(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "blog", templates=("common", "fastapi", "blog"), clock="docker build")
        self.notes.append("runs as root, since `pip install --user` installs for root")


class Hand(Contestant):
    def __init__(self, place: Place) -> None:
        super().__init__(place, "hand", templates=("common", "fastapi", "hand"), clock="docker build")


ALL = (Mlship, BentoML, LitServe, MLflow, Blog, Hand)
