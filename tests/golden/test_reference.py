"""docs/reference.md is generated from the program, so it cannot go stale; `make golden` updates it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from mlship import errors
from mlship.cli.app import app
from mlship.cuda.hosts.fleet import FleetCuda
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.image.plan import GpuPlan
from mlship.models.registered import RegisteredModel, Registration
from mlship.project.config import PYTHONS, AllowedPickle, Config
from mlship.project.config import Gpu as GpuSection
from mlship.project.metadata import FeatureLimits, TrainingFeature, TrainingStatistics
from mlship.project.request import Request as SmokeRequest
from mlship.project.training import Training
from mlship.size.report import SizeReport

REFERENCE = Path(__file__).parents[2] / "docs/reference.md"


def commands(group: TyperGroup, prefix: str = "") -> Iterator[str]:
    """Every command of the program, in the order of its help."""
    context = group.make_context("mlship", [], resilient_parsing=True)
    for name in group.list_commands(context):
        yield f"{prefix}{name}"
        command = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{prefix}{name} ")


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
        yield f"| `{prefix}{field.alias or name}` | {default} | {field.description or ''} |"


def helps(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("COLUMNS", "100")
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    for command in commands(program):
        text = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="mlship").output
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        yield f"### mlship {command}\n\n```\n{lines}\n```\n"


HOST = {
    "name": "name of this kind of host; the file's name",
    "driver": "driver version as `nvidia-smi` prints it: `550.54.15`",
    "gpus": "list with one entry per kind of GPU",
    "platform": "`linux/amd64` or `linux/arm64`",
    "cuda": "CUDA version from NVML, such as `12.4`; only a cross-check, because it depends on the libcuda found",
    "toolkit": "version of the NVIDIA Container Toolkit",
    "engine": "such as `Docker Engine 26.1.5`",
    "source": "origin: `nvml`, `labels`, `command line` or `hand`",
    "simulated": "the NVIDIA libraries identify themselves as simulated",
    "notes": "list of notes, such as a disagreement between sources",
    "schema": "version of this format",
}
GPU = {
    "name": "from NVML or a node's label",
    "capability": "compute capability, such as `8.0`; null if unknown",
    "count": "number of GPUs",
    "memory": "bytes per GPU",
    "mig": "Multi-Instance GPU mode is enabled",
}


def members(kind: type[HostProfile | HostGpu], meanings: dict[str, str]) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = "required" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"
        yield f"| `{field.name}` | {default} | {meanings[field.name]} |"


FLEET_CUDA = {
    "most": "newest CUDA that every driver and GPU supports; null if a driver is unknown",
    "least": "oldest CUDA that supports every GPU; null if there is no lower bound",
    "outright": "list of CUDA versions that every driver and GPU supports, oldest first",
    "by_minor_version": "list of further CUDA versions that run on all hosts through minor-version compatibility",
    "hosts": "list of `host` and `cuda`: the CUDA version its driver supports, or null",
    "bounds": "list of limits: `host`, `side` (`most`, `least`), `cuda`, `by` (`driver`, `gpu`), `because`",
    "blocked": "list of `host` and `why`: hosts that no CUDA version fits",
    "doubtful": "list of `host` and `why`: hosts where only a run shows whether `by_minor_version` holds",
    "unknown": "list of `host` and `why`: hosts that could not be judged",
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
    "image": "as given by the user",
    "id": "image ID in the engine",
    "platform": "such as `linux/amd64`",
    "totals": "`compressed` (the size of a pull), `unpacked`, `hidden` (by later layers), `files`",
    "base": "the base image: `layers`, `compressed`, `unpacked`, null if unknown; `name`, `digest`, `why`",
    "layers": "list, lowest first: `digest`, `diff_id`, `made_by`, `base`, `compressed`, `unpacked`, `hidden`, `files`",
    "parts": "list of packages and folders, largest first: `group`, `name`, `version`, `bytes`, `files`, "
    "and `sorts`: bytes of `native`, `data`, `code` and `bytecode`",
    "waste": "list of what may not be needed: `id`, `bytes`, `what`, `advice`, `where`",
    "unknown": "list of what could not be determined, with the reason",
    "against": "null, or the changes since `other`: `pulled` (layer numbers), `pull` (their compressed bytes), "
    "`compressed`, `unpacked`, `changes`",
    "schema": "version of this format",
}


def meanings_of(kind: type[FleetCuda | GpuPlan | SizeReport], meanings: dict[str, str]) -> Iterator[str]:
    yield from (f"| `{field.name}` | {meanings[field.name]} |" for field in dataclasses.fields(kind))


def codes() -> Iterator[str]:
    for kind in sorted(errors.MlshipError.__subclasses__(), key=lambda kind: kind.exit_code):
        yield f"| {kind.exit_code} | {(kind.__doc__ or '').strip().splitlines()[0]} |"


PAGE = """\
# Reference

Generated by `make golden`; do not edit.

## Commands

{helps}
## mlship.yaml

| key | default | meaning |
| --- | --- | --- |
{keys}

`python` is one of {pythons}.

Each entry of `model.allow_pickle`:

| key | default | meaning |
| --- | --- | --- |
{pickles}

Keys of `gpu`:

| key | default | meaning |
| --- | --- | --- |
{section}

Keys of `smoke.request`, with one of `body` (a file), or `form` and `files` (a form, with uploads):

| key | default | meaning |
| --- | --- | --- |
{request}

```yaml
smoke:
  env:
    API_TOKEN: null          # `export API_TOKEN=...` before `mlship build`; never in the image
  request:
    path: /detect
    headers: {{Authorization: "Bearer ${{API_TOKEN}}"}}
    files: {{image: samples/cat.jpg}}
    form: {{size: 640}}
    expect:
      type: application/json
      values: {{"$.boxes[0].label": cat, "$.boxes[0].score": null}}
```

## metadata.json

The record of a training. `training_record.py`, which `mlship training-record` prints, writes it where a model is
trained; `model.metadata` in mlship.yaml names it. Keys that are not listed here are kept and not read.

| key | default | meaning |
| --- | --- | --- |
{training}

Each entry of `files` has `sha256` and `size`, in bytes.

**Statistics.** With `statistics` in a metadata.json of the repository's root, the server that `mlship init` writes
exports how inputs and outputs differ from the training. `statistics()` of training_record.py computes them.

| key | default | meaning |
| --- | --- | --- |
{statistics}

Each entry of `inputs` and `outputs`, as the model gets and returns the values:

| key | default | meaning |
| --- | --- | --- |
{feature}

```json
{{"statistics": {{"inputs": {{"rows[0]": {{"deciles": [4.8, 5, 5.2, 5.6, 5.8, 6.1, 6.3, 6.52, 6.9], "mean": 5.84,
 "variance": 0.68, "null_rate": 0.0}}}}, "probabilities": "probabilities"}}}}
```

**Features.** `features` says which values the server that `mlship init` writes accepts. Each key is an input, named as
in `statistics.inputs`, and its entry has:

| key | default | meaning |
| --- | --- | --- |
{limits}

```json
{{"features": {{"age": {{"min": 0, "max": 130}}, "income": {{"missing": 0, "indicator": "income_missing"}},
 "rows[2]": {{"missing": "nan"}}}}}}
```

## Registered models

`mlship register` stores `models/NAME/COMMIT/TIME/` in a folder or a bucket: the files and metadata.json. COMMIT is that
of the training code, TIME is `created` of the record, in UTC. In a registry, NAME is a repository with the tag
COMMIT-TIME; the artifact is one of the [ModelPack specification](https://github.com/modelpack/model-spec), with one
layer for each file. metadata.json is the record of the training with these keys:

| key | default | meaning |
| --- | --- | --- |
{registered}
{registration}

Each entry of `registration.parents` has `version` and `checksum`. The checksum finds damage; whoever can write to the
store can also compute a new one.

## Host files

One JSON file per kind of GPU host, in `hosts/`. `mlship hosts record` and `mlship hosts import` write them, and
`mlship hosts` reads them. They contain no serial numbers and no host names. Unknown values are null.

| key | default | meaning |
| --- | --- | --- |
{host}

Each entry of `gpus`:

| key | default | meaning |
| --- | --- | --- |
{gpu}

## JSON of `mlship hosts` and `mlship plan`

`mlship hosts --json` prints `origin` (where the hosts come from), `committed` (whether they are files of the
repository), `hosts` (as in the host files) and `cuda`, which has:

| key | meaning |
| --- | --- |
{fleet}

`mlship plan --json` prints the plan, with `schema` as its version. Its `gpu` is null for a CPU image, otherwise:

| key | meaning |
| --- | --- |
{plan}

## JSON of `mlship size`

`mlship size IMAGE --json` prints the input of `--against`. Sizes are in bytes; unknown values are null.

| key | meaning |
| --- | --- |
{size}

## Exit codes

| code | meaning |
| --- | --- |
| 0 | Success. |
{codes}
| 70 | A bug in mlship, with a report to paste. |

## Environment

| variable | meaning |
| --- | --- |
| `MLSHIP_BASE_MIRROR` | Registry that holds `library/python`; overrides `base.mirror`. |
| `MLSHIP_WHEEL_INDEX` | Mirror of PyTorch's wheel index; overrides `gpu.wheel_index`. |
| `SOURCE_DATE_EPOCH` | Build time, instead of the commit's. |
| `DOCKER_HOST`, docker contexts | The engine to use. |
| `MLSHIP_STORE` | The store of `mlship register` and `mlship models`, if `--store` is not given. |
| `AWS_*` | Keys, region, profile and endpoint for S3, as for AWS's own programs. |
| `NO_COLOR` | Disable colours. |
| `GITHUB_STEP_SUMMARY` | File to which the smoke report is added. |
| `PIP_*`, `pip.conf`, `~/.netrc`, `*_proxy` | pip's settings on this machine; the image build uses them as secrets. |
| `XDG_CACHE_HOME` | Parent of the cache folder `mlship/`. Default: `~/.cache`. |
"""


_REGISTRATION = tuple(keys(Registration, "registration."))


def reference(monkeypatch: pytest.MonkeyPatch) -> str:
    return PAGE.format(
        helps="\n".join(helps(monkeypatch)),
        keys="\n".join(keys(Config)),
        pythons=", ".join(f"`{version}`" for version in PYTHONS),
        pickles="\n".join(keys(AllowedPickle)),
        registered="\n".join(row for row in keys(RegisteredModel) if row not in {*keys(Training), *_REGISTRATION}),
        registration="\n".join(_REGISTRATION),
        section="\n".join(keys(GpuSection, "gpu.")),
        request="\n".join(keys(SmokeRequest, "smoke.request.")),
        training="\n".join(keys(Training)),
        statistics="\n".join(keys(TrainingStatistics, "statistics.")),
        feature="\n".join(keys(TrainingFeature)),
        limits="\n".join(keys(FeatureLimits)),
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
