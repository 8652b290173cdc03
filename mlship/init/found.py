"""What `mlship init` finds in a repository, with the reason for each result."""

from dataclasses import dataclass, field
from pathlib import Path

from mlship.init.declared.result import Declared, ImageInstalls
from mlship.init.handlers import Handler
from mlship.init.image_variables import ImageVariables
from mlship.init.import_needs import ImportNeeds
from mlship.init.local_imports import LocalImport
from mlship.init.native import NativeModel
from mlship.init.pickled import PickledModel
from mlship.init.predictors import CogPredictor
from mlship.init.working_folder import WorkingFolder
from mlship.project.commands import PORT
from mlship.project.weights import WeightFile


@dataclass(frozen=True)
class Detected:
    """A detected value and the reason for it; `value` is None if nothing was found."""

    value: str | None
    why: str


@dataclass(frozen=True)
class Routes:
    """Server paths for mlship.yaml; None if not found.

    Attributes:
        handler: the function behind `predict`.
        posts: `predict` accepts POST.
        posts_to: the paths of all POST routes.
    """

    live: str | None
    ready: str | None
    predict: str | None
    handler: Handler | None = None
    posts: bool = True
    posts_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExistingServer:
    """A server in the repository.

    Attributes:
        path: the file that defines the server or its command.
        modules: dotted names of the modules that the command imports.
        needs: distributions that the command requires.
        folder: where the command runs; None for the repository.
        import_root: a folder that the command names its module from, but does not run in; empty for none.
        steps: what the user has to change so that the command works.
        written: the repository has the command.
        opaque: the command is a script of the repository that was not read.
        port_known: whether anything says what `port` is.
    """

    kind: str
    path: str
    command: tuple[str, ...]
    port: int
    routes: Routes
    modules: tuple[str, ...]
    needs: tuple[str, ...]
    why: str
    folder: WorkingFolder | None = None
    import_root: str = ""
    steps: tuple[str, ...] = ()
    written: bool = False
    opaque: bool = False
    port_known: bool = True

    @property
    def place(self) -> str:
        """The folder in the repository that it runs in."""
        return self.folder.path if self.folder else ""


@dataclass(frozen=True)
class AbsentFile:
    """A model file or folder that code loads and the repository lacks.

    Attributes:
        path: relative to the working directory, or to an unknown folder, with `*` for what the code computes; the name
            of a model on the Hub.
        where: what loads it, for people.
        listed: what model.weights names for it; None if its place is unknown.
    """

    path: str
    where: str
    listed: str | None = None


@dataclass(frozen=True)
class ModelFiles:
    """The model files of a repository.

    Attributes:
        models: usable files.
        refused: files that run code when loaded, and Git LFS pointers.
        named: files for model.weights, or folders that hold only model files.
        absent: missing files or folders that the code loads; hub: models that it loads from the Hugging Face Hub;
            misplaced: files that are in another folder than the one that it loads them from; `listed` is where.
            outside: absolute paths that it loads; downloads: what it downloads with other libraries.
        choices: models to choose from, if the repository does not determine one.
        native: the model that a generated server loads.
    """

    models: tuple[WeightFile, ...]
    refused: tuple[WeightFile, ...]
    named: tuple[str, ...]
    absent: tuple[AbsentFile, ...]
    choices: tuple[str, ...]
    why: str
    native: NativeModel | None = None
    hub: tuple[AbsentFile, ...] = ()
    misplaced: tuple[AbsentFile, ...] = ()
    outside: tuple[AbsentFile, ...] = ()
    downloads: tuple[AbsentFile, ...] = ()


@dataclass(frozen=True)
class GpuUse:
    """Whether the model is meant for NVIDIA GPUs.

    Attributes:
        evidence: reasons for a GPU image; empty for a CPU image.
        hosts: host files in the repository.
        note: an inconclusive hint.
    """

    evidence: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    note: str | None = None

    @property
    def wanted(self) -> bool:
        return bool(self.evidence)


@dataclass(frozen=True)
class Detection:
    """Everything that was detected.

    Attributes:
        root: the repository; name: image name.
        framework: the library that runs the model.
        evidence: reasons for the framework.
        loader: package.module:function in the repository.
        native, cog: the model or predictor to write a loader for, if the repository has neither a loader nor a server.
        declared: dependencies by file, most specific first.
        imports: what the served code imports.
        source: files and folders of the served code.
        python_path: value of PYTHONPATH, if modules are not imported from the repository root only.
        variables: those that the repository's own image sets.
        local: bare imports of modules in other folders of the repository, by the served code.
        pickles: what pickled model files need.
        at_root: the root's requirements.txt, whether or not it is among `declared`.
        training: the record of the training.
        compiled: own modules that have to be compiled, each with the file that says so.
        installs: what the repository's Dockerfile installs.
        beside: the file of an existing server, if another one is wanted beside it.
        notes: remarks that may need action.
    """

    root: Path
    name: str
    python: Detected
    framework: Detected
    evidence: tuple[str, ...]
    weights: ModelFiles
    loader: Detected
    native: NativeModel | None
    server: ExistingServer | None
    sample: Detected
    golden: Detected
    declared: tuple[Declared, ...]
    imports: ImportNeeds
    source: tuple[str, ...]
    python_path: str | None
    notes: tuple[str, ...]
    gpus: GpuUse = GpuUse()
    local: tuple[LocalImport, ...] = ()
    pickles: tuple[PickledModel, ...] = ()
    cog: CogPredictor | None = None
    compiled: tuple[tuple[str, str], ...] = ()
    at_root: Declared | None = None
    training: str | None = None
    beside: str = ""
    installs: ImageInstalls = field(default_factory=ImageInstalls)
    variables: ImageVariables = field(default_factory=ImageVariables)

    @property
    def tests_server_only(self) -> bool:
        """Whether only the repository's own server can be tested, because nothing returns its model."""
        return self.server is not None and self.loader.value is None

    @property
    def port(self) -> int:
        """Port of the existing or generated server."""
        return self.server.port if self.server else PORT
