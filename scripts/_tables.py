"""Rows for mlship/data/cuda that scripts/refresh-tables proposes, as TOML. A person reads their sources."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version
from pydantic import BaseModel

from mlship.cuda.tables.lookup import tables
from mlship.cuda.tables.read import TableFile, read_table
from mlship.cuda.tables.rows import DriversFile, ImagesFile, PackagesFile
from mlship.resources import read_package_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlship.cuda.tables.rows import Release, Variant
    from mlship.cuda.versions import Cuda

_TAG = re.compile(r"(?P<version>\d+\.\d+\.\d+)-(?P<cudnn>cudnn\d*)-runtime-(?P<distro>ubuntu\d\d\.\d\d)")
_MODELS: Mapping[str, type[TableFile]] = {
    "drivers.toml": DriversFile,
    "images.toml": ImagesFile,
    "packages.toml": PackagesFile,
}
_PROPOSED = "proposed by `make tables` from"


@dataclass(frozen=True)
class Row:
    """A proposed row.

    Attributes:
        before: text of the file in front of which it belongs.
        human: what a person must do before it is merged.
    """

    file: str
    before: str
    text: str
    source: str
    human: str


class _Tag(BaseModel):
    name: str


class _Tags(BaseModel):
    """A page of Docker Hub's API: /v2/repositories/nvidia/cuda/tags."""

    results: list[_Tag]


def toolkit_row(version: str) -> Row:
    cuda, _, update = version.rpartition(".")
    name = cuda if update == "0" else f"{cuda} U{update}"
    note = f"on PyPI as cuda-toolkit {version}; its driver is unconfirmed"
    text = f'  {{ version = "{name}", note = "{note}", source = "SOURCE" }},\n'
    human = f"CUDA {name}: read its oldest driver in NVIDIA's release notes, and its driver branch"
    return Row("drivers.toml", "  { version = ", text, "PyPI's cuda-toolkit", human)


def release_row(old: Release, version: str, cuda: Cuda | None, cudnn: str, torch: str | None) -> Row | None:
    """The newest release like the last known one; None where its metadata does not say enough."""
    variant = old.variant() or (old.variants[0] if old.variants else None)
    lines = []
    if variant:
        line = _variant(variant, cuda, cudnn)
        if line is None:
            return None
        lines = [f'default = "{line[0]}"' if old.default else "", f"variants = [\n  {line[1]},\n]"]
    if old.torch and not torch:
        return None
    lines = [
        "[[releases]]",
        f'package = "{old.package}"',
        f'versions = "{_band(old, Version(version))}"',
        f'follows = "{old.follows}"' if old.follows else "",
        f'torch = "{torch}"' if old.torch else "",
        f'min_capability = "{old.min_capability}"' if old.min_capability else "",
        'source = "SOURCE"',
        *lines,
    ]
    text = "".join(f"{line}\n" for line in lines if line) + "\n"
    human = (
        f"{old.package} {version}: measure the GPUs of its wheels (`scripts/measure-wheels {old.package}=={version}`)"
    )
    return Row(
        "packages.toml", f'[[releases]]\npackage = "{old.package}"\n', text, f"PyPI's {old.package} {version}", human
    )


def _band(old: Release, version: Version) -> str:
    """The minor release of a version, without what the last row has of it."""
    low = max(Version(f"{version.major}.{version.minor}"), old.band[1])
    return f">={low},<{version.major}.{version.minor + 1}"


def _variant(old: Variant, cuda: Cuda | None, cudnn: str) -> tuple[str, str] | None:
    """The variant's name and row. Its GPUs are left out: nothing but its code shows them."""
    if cuda is None or old.cuda is None or (old.cuda_below and cuda.major != old.cuda.major):
        return None
    name = f"cu{cuda.major}{cuda.minor}" if re.fullmatch(r"cu\d{3}", old.name) else old.name
    if name == old.name and cuda.major != old.cuda.major:
        return None
    parts = {"name": name, "cuda": str(old.cuda if old.cuda_below else cuda)}
    if old.cuda_below:
        parts["cuda_below"] = str(old.cuda_below)
    if cudnn and old.cudnn:
        parts["cudnn"] = ".".join(cudnn.split(".")[: old.cudnn.count(".") + 1])
    if old.libraries:
        parts["libraries"] = old.libraries
    for key in ("min_driver", "supported_driver", "min_capability"):
        value = getattr(old, key)
        if value:
            parts[key] = str(value)
    extras = f"extras = {json.dumps(list(old.extras))}, " if old.extras else ""
    fields = ", ".join(f'{key} = "{value}"' for key, value in parts.items())
    return name, f'{{ {fields}, {extras}source = "SOURCE" }}'


def image_rows(page: str) -> Iterator[Row]:
    """Images that are newer than the newest known one, from a page of Docker Hub's tags."""
    newest = max(Version(image.version) for image in tables().images)
    found: dict[Version, list[re.Match[str]]] = {}
    for tag in _Tags.model_validate_json(page).results:
        match = _TAG.fullmatch(tag.name)
        if match and Version(match["version"]) > newest:
            found.setdefault(Version(match["version"]), []).append(match)
    for version, matches in sorted(found.items()):
        distros = json.dumps(sorted({match["distro"] for match in matches}))
        token = matches[0]["cudnn"]
        text = (
            f'  {{ version = "{version}", distros = {distros}, cudnn = "9", token = "{token}", '
            'confirmed = true, source = "SOURCE" },\n'
        )
        human = (
            f"nvidia/cuda {version}: check that its cuDNN is 9, and mark the point release that it replaces as `gone`"
        )
        yield Row("images.toml", "]\n\n[sources]", text, "Docker Hub's tags of nvidia/cuda", human)


def unknown_branches(releases: str) -> Iterator[str]:
    """Driver branches that no row has, from NVIDIA's releases.json: the CUDA that they report is not in that file."""
    known = {branch.branch for branch in tables().drivers.branches}
    listed: dict[str, object] = json.loads(releases)
    for branch in sorted(int(key) for key in listed if key.isdecimal()):
        if branch > min(known) and branch not in known:
            yield f"driver branch R{branch}: read the CUDA that it reports in NVIDIA's release notes"


def with_rows(rows: list[Row], day: str) -> Mapping[str, str]:
    """The files with these rows in them, each checked as mlship reads it.

    Raises:
        ValueError: a row does not fit its file.
    """
    texts: dict[str, str] = {}
    for row in rows:
        text = texts.get(row.file) or read_package_file(f"data/cuda/{row.file}")
        key = f"proposed-{day}-{re.sub('[^a-z0-9]+', '-', row.source.lower()).strip('-')}"
        text = text.replace(row.before, row.text.replace("SOURCE", key) + row.before, 1)
        texts[row.file] = f'{text.rstrip()}\n{key} = "{_PROPOSED} {row.source}, {day}"\n'
    for name, text in texts.items():
        read_table(_MODELS[name], name, text)
    return texts
