"""What `mlship init` finds in a repository, as frozen values: each with why, and "not found" with why not."""

from dataclasses import dataclass

from mlship.init.requirements import Declared
from mlship.project.commands import PORT
from mlship.project.onnx_header import OnnxHeader
from mlship.project.weights import WeightFile


@dataclass(frozen=True)
class Detected:
    """One thing that was looked for; `value` is None where it is unknown, and `why` says so."""

    value: str | None
    why: str


@dataclass(frozen=True)
class Routes:
    """The paths of a server that mlship.yaml needs; None where none was found."""

    live: str | None
    ready: str | None
    predict: str | None


@dataclass(frozen=True)
class ExistingServer:
    """A server that the repository already has.

    Attributes:
        path: the file that holds it, or the one that names its command.
        modules: dotted names of what its command imports.
        needs: distributions that must be installed for the command to start.
    """

    kind: str
    path: str
    command: tuple[str, ...]
    port: int
    routes: Routes
    modules: tuple[str, ...]
    needs: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class ModelFiles:
    """The model files.

    Attributes:
        models: usable ones; `refused` are code when loaded.
        named: what model.weights should say: files, or folders where all that is in them belongs to the model.
        absent: files or folders that the code names and that are not here.
        choices: several models among which nothing in the repository decides.
    """

    models: tuple[WeightFile, ...]
    refused: tuple[WeightFile, ...]
    named: tuple[str, ...]
    absent: tuple[str, ...]
    choices: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class GpuUse:
    """Whether the model is meant for NVIDIA GPUs.

    Attributes:
        evidence: what speaks for it, line by line; none: the image is for the CPU.
        hosts: host files that the repository has.
        note: what may speak for it and does not decide.
    """

    evidence: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    note: str | None = None

    @property
    def wanted(self) -> bool:
        return bool(self.evidence)


@dataclass(frozen=True)
class Detection:
    """All of it.

    Attributes:
        name: a name for the image.
        framework: what the served code runs the model with.
        evidence: what speaks for the framework, line by line.
        loader: package.module:function in the repository.
        onnx: the header of the one ONNX model, where there is neither a loader nor a server of its own.
        declared: dependencies by file, the most telling first.
        imports: distributions that the served code imports.
        source: files and folders of the served code.
        python_path: folder that modules are found from, where it is not the repository itself.
        notes: what a person should know and may have to act on.
    """

    name: str
    python: Detected
    framework: Detected
    evidence: tuple[str, ...]
    weights: ModelFiles
    loader: Detected
    onnx: OnnxHeader | None
    server: ExistingServer | None
    sample: Detected
    golden: Detected
    declared: tuple[Declared, ...]
    imports: tuple[str, ...]
    source: tuple[str, ...]
    python_path: str | None
    notes: tuple[str, ...]
    gpus: GpuUse = GpuUse()

    @property
    def port(self) -> int:
        """Of the existing server, or of the one that is written."""
        return self.server.port if self.server else PORT
