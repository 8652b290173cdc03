"""docs/reference.md is made from the program, so it cannot go stale: `make golden` writes it anew."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from mlship import errors
from mlship.cli.app import app
from mlship.cuda.hosts.fleet import FleetCuda
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.image.plan import GpuPlan
from mlship.project.config import AllowedPickle, Config
from mlship.project.config import Gpu as GpuSection
from mlship.size.report import SizeReport

REFERENCE = Path(__file__).parents[2] / "docs/reference.md"
COMMANDS = (
    "init",
    "lock",
    "plan",
    "dockerfile",
    "build",
    "rebuild",
    "smoke",
    "size",
    "hosts",
    "hosts record",
    "hosts import",
    "doctor",
    "doctor explain",
    "schema",
)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
            continue
        default = (
            "required"
            if field.is_required()
            else ""
            if field.default in (None, (), PydanticUndefined)
            else f"`{field.default}`"
        )
        yield f"| `{prefix}{name}` | {default} | {field.description or ''} |"


def helps(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "100")
    for command in COMMANDS:
        text = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mlship").output
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        yield f"### mlship {command}\n\n```\n{lines}\n```\n"


HOST = {
    "name": "what people call this kind of host: the file's name",
    "driver": "the driver's version, as `nvidia-smi` prints it: `550.54.15`",
    "gpus": "list; one entry for each kind of GPU in it",
    "platform": "`linux/amd64` or `linux/arm64`",
    "cuda": "what NVML says of CUDA, such as `12.4`; only compared, as it follows whatever libcuda is found",
    "toolkit": "version of the NVIDIA Container Toolkit",
    "engine": "such as `Docker Engine 26.1.5`",
    "source": "where it comes from: `nvml`, `labels`, `command line` or `hand`",
    "simulated": "the libraries that answered say that they are a simulation",
    "notes": "list of what is worth knowing, such as a disagreement between sources",
    "schema": "of this format",
}
GPU = {
    "name": "as NVML or a node's label has it",
    "capability": "compute capability, such as `8.0`; null where nobody could tell",
    "count": "how many",
    "memory": "bytes of one",
    "mig": "Multi-Instance GPU is on",
}


def members(kind: type[HostProfile | HostGpu], meanings: dict[str, str]) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = "required" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"
        yield f"| `{field.name}` | {default} | {meanings[field.name]} |"


FLEET_CUDA = {
    "most": "newest CUDA that every driver offers and no GPU is too old for; null where a driver's is not known",
    "least": "oldest CUDA that knows every GPU; null where nothing sets one",
    "outright": "list of CUDA versions that every driver offers and that know every GPU, oldest first",
    "by_minor_version": "list of those that run on all beside, by minor-version compatibility",
    "hosts": "list of `host` and `cuda`: what its driver offers, or null",
    "bounds": "list of what limits a host: `host`, `side` (`most`, `least`), `cuda`, `by` (`driver`, `gpu`), `because`",
    "blocked": "list of `host` and `why`: no CUDA runs there",
    "doubtful": "list of `host` and `why`: only a run tells whether `by_minor_version` holds",
    "unknown": "list of `host` and `why`: what keeps the answer from being whole",
}
GPU_PLAN = {
    "cuda": "version of CUDA's libraries in the image, such as `12.6`; null if no package is known to need them",
    "way": "`wheels`: locked wheels bring them; `image`: they are copied from `runtime`",
    "require": "NVIDIA_REQUIRE_CUDA; may be empty",
    "runtime": "NVIDIA's image that the libraries are copied from: `reference` and `digest`",
    "devel": "NVIDIA's image that provides nvcc to the builder and does not ship",
    "compiled": "list of locked distributions that are compiled with it",
    "compat": "NVIDIA's image whose forward-compatibility libraries ship",
    "index": "wheel index of the chosen CUDA; null if the project's own indexes have the wheels",
    "hosts": "list of the names of the hosts that the image is matched to",
    "devices": "list of their GPUs, for people: `T4 (7.5)`",
    "architectures": "list of their compute capabilities; empty if one of them is unknown",
}

SIZE = {
    "image": "what was asked for",
    "id": "what the engine knows it by",
    "platform": "such as `linux/amd64`",
    "totals": "`compressed` (what a pull moves), `unpacked`, `hidden` (of it, by later layers), `files`",
    "base": "the base's part: `layers`, `compressed`, `unpacked`, null where not known; `name`, `digest`, `why`",
    "layers": "list, the lowest first: `digest`, `diff_id`, `made_by`, `base`, `compressed`, `unpacked`, `hidden`, "
    "`files`",
    "parts": "list of packages and folders, the largest first: `group`, `name`, `version`, `bytes`, `files`, "
    "and `sorts`: bytes of `native`, `data`, `code` and `bytecode`",
    "waste": "list of what may not be needed: `id`, `bytes`, `what`, `advice`, `where`",
    "unknown": "list of what could not be told, and why",
    "against": "null, or what changed since `other`: `pulled` (numbers of layers), `pull` (their compressed bytes), "
    "`compressed`, `unpacked`, `changes`",
    "schema": "of this format",
}


def meanings_of(kind: type[FleetCuda | GpuPlan | SizeReport], meanings: dict[str, str]) -> Iterator[str]:
    yield from (f"| `{field.name}` | {meanings[field.name]} |" for field in dataclasses.fields(kind))


def codes() -> Iterator[str]:
    for kind in sorted(errors.MlshipError.__subclasses__(), key=lambda kind: kind.exit_code):
        yield f"| {kind.exit_code} | {(kind.__doc__ or '').strip().splitlines()[0]} |"


PAGE = """\
# Reference

Made from the program by `make golden`; do not edit.

## Commands

{helps}
## mlship.yaml

| key | default | meaning |
| --- | --- | --- |
{keys}

Each entry of `model.allow_pickle`:

| key | default | meaning |
| --- | --- | --- |
{pickles}

What may stand in `gpu`:

| key | default | meaning |
| --- | --- | --- |
{section}

## Host files

One JSON file for each kind of GPU host, in `hosts/`: `mlship hosts record` and `mlship hosts import` write them, and
`mlship hosts` reads them. They hold no serial number and no host name. Unknown is null.

| key | default | meaning |
| --- | --- | --- |
{host}

Each entry of `gpus`:

| key | default | meaning |
| --- | --- | --- |
{gpu}

## JSON of `mlship hosts` and `mlship plan`

`mlship hosts --json` prints `origin` (where the hosts come from), `committed` (they stand in the repository), `hosts`
(as in the host files) and `cuda`, which has:

| key | meaning |
| --- | --- |
{fleet}

`mlship plan --json` prints the plan, with `schema` as its version. Its `gpu` is null for an image for the CPU; else:

| key | meaning |
| --- | --- |
{plan}

## JSON of `mlship size`

`mlship size IMAGE --json` prints what `--against` reads back. Sizes are bytes; unknown is null.

| key | meaning |
| --- | --- |
{size}

## Exit codes

| code | meaning |
| --- | --- |
| 0 | All that was asked for was done, and proven. |
{codes}
| 70 | A bug of ours, with a report to paste. |

## Environment

| variable | meaning |
| --- | --- |
| `MLSHIP_BASE_MIRROR` | Registry that holds `library/python`; overrides `base.mirror`. |
| `MLSHIP_WHEEL_INDEX` | Mirror of PyTorch's wheel index; overrides `gpu.wheel_index`. |
| `SOURCE_DATE_EPOCH` | Time of the build, instead of the commit's. |
| `DOCKER_HOST`, docker contexts | Which engine is used. |
| `NO_COLOR` | No colours. |
| `GITHUB_STEP_SUMMARY` | The smoke test's report is added to that file. |
| `PIP_*`, `pip.conf`, `~/.netrc`, `*_proxy` | What pip uses here is what the image build uses, as secrets. |
| `XDG_CACHE_HOME` | Where mlship keeps what it can make again, in `mlship/`. Default: `~/.cache`. |
"""


def reference(monkeypatch: pytest.MonkeyPatch) -> str:
    return PAGE.format(
        helps="\n".join(helps(monkeypatch)),
        keys="\n".join(keys(Config)),
        pickles="\n".join(keys(AllowedPickle)),
        section="\n".join(keys(GpuSection, "gpu.")),
        host="\n".join(members(HostProfile, HOST)),
        gpu="\n".join(members(HostGpu, GPU)),
        fleet="\n".join(meanings_of(FleetCuda, FLEET_CUDA)),
        plan="\n".join(meanings_of(GpuPlan, GPU_PLAN)),
        size="\n".join(meanings_of(SizeReport, SIZE)),
        codes="\n".join(codes()),
    )


def test_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    made = reference(monkeypatch)
    if request.config.getoption("--update-golden"):
        REFERENCE.write_text(made)
    assert REFERENCE.read_text() == made
