"""What mlship knows about ML frameworks, packages and model files: data/frameworks.toml, read on first use."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from functools import cache
from typing import Literal, TypeAlias

from packaging.version import Version

from mlship.versioned import TableRow, table_reader

RuntimeGroup: TypeAlias = Literal["cuda", "framework"]


class Telemetry(TableRow):
    """The environment variable that keeps a library from sending telemetry."""

    variable: str
    value: str
    source: str


class Framework(TableRow):
    """One row of frameworks.toml, which explains its keys."""

    name: str
    imports: frozenset[str] = frozenset()
    distributions: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    layer: tuple[str, ...] = ()
    cpu_only: tuple[str, ...] = ()
    gpu_only: tuple[str, ...] = ()
    gpu_requirements: tuple[str, ...] = ()
    required_by: frozenset[str] = frozenset()
    rivals: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()
    cannot_report: tuple[str, ...] = ()
    wheels: Mapping[str, str] = {}
    telemetry: Telemetry | None = None
    unconverted: Mapping[str, str] = {}


class CudaDistributions(TableRow):
    libraries: tuple[str, ...]
    without_code: tuple[str, ...]
    carriers: tuple[str, ...]
    layer: tuple[str, ...]
    cannot_report: tuple[str, ...]


class OtherGpus(TableRow):
    """Builds for the GPUs of another vendor than NVIDIA."""

    vendor: str
    local: str = ""
    packages: tuple[str, ...]


class GpuOnly(TableRow):
    """What is of no use without a GPU, frameworks apart."""

    packages: tuple[str, ...]
    conda: frozenset[str]
    extras: dict[str, str]


class FormatText(TableRow):
    """How to speak of one kind of model file."""

    title: str = ""
    suffix: str = ""
    problem: str = ""
    fix: str = ""
    example: str = ""


class LoaderRow(TableRow):
    """What `mlship init` writes for one kind of model."""

    title: str
    template: str
    requires: tuple[str, ...]
    instead: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    tasks: Mapping[str, str] = {}


class FrameworkTable(TableRow):
    frameworks: tuple[Framework, ...]
    cuda: CudaDistributions
    other_gpus: tuple[OtherGpus, ...]
    gpu_only: GpuOnly
    formats: dict[str, FormatText]
    loaders: dict[str, LoaderRow]


framework_table = table_reader(FrameworkTable, "frameworks")


def runtime_group(name: str) -> RuntimeGroup | None:
    """The layer group of a CUDA library or a framework's runtime, by canonical name; None for other packages."""
    if _matches(framework_table().cuda.layer, name):
        return "cuda"
    return "framework" if any(_matches(row.layer, name) for row in framework_table().frameworks) else None


def is_cuda_library(name: str) -> bool:
    """A distribution with CUDA's own libraries."""
    return _matches(framework_table().cuda.libraries, name)


def is_gpu_only(name: str) -> bool:
    """A distribution of no use without a GPU."""
    table = framework_table()
    rows = (table.gpu_only.packages, *(row.gpu_only for row in table.frameworks))
    return any(_matches(patterns, name) for patterns in rows)


def other_vendor(name: str, local: str | None) -> str | None:
    """The vendor whose GPUs a build is for, if it is not NVIDIA; by canonical name and local version (rocm6.2)."""
    return next(
        (
            row.vendor
            for row in framework_table().other_gpus
            if _matches(row.packages, name) or (row.local and (local or "").startswith(row.local))
        ),
        None,
    )


def gpu_requirement_for(name: str) -> str | None:
    """What to require instead of a distribution that runs on the CPU only; None for any other."""
    rows = framework_table().frameworks
    return next((" or ".join(row.gpu_requirements) for row in rows if name in row.cpu_only), None)


def gpu_requirements() -> dict[str, str]:
    """What brings CUDA's libraries for the libraries in a folder of site-packages."""
    rows = framework_table().frameworks
    return {folder: " or ".join(row.gpu_requirements) for row in rows for folder in row.folders}


def silent_modules() -> tuple[str, ...]:
    """Modules that use a GPU and have no way to report it."""
    table = framework_table()
    return (*(name for row in table.frameworks for name in row.cannot_report), *table.cuda.cannot_report)


def has_wheel(framework: str, version: str, python: str) -> bool:
    """Whether a version of a framework has a wheel for this Python, as far as frameworks.toml says."""
    first = next((row.wheels.get(python) for row in framework_table().frameworks if row.name == framework), None)
    return first is not None and Version(version) >= Version(first)


def telemetry_of(names: Iterable[str]) -> Iterator[Telemetry]:
    """The switches of those installed distributions that send telemetry."""
    installed = frozenset(names)
    for row in framework_table().frameworks:
        if row.telemetry and any(_matches(row.layer, name) for name in installed):
            yield row.telemetry


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return bool(patterns) and _compiled(patterns).fullmatch(name) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))
