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
from mlship.cuda.hosts import Gpu, HostProfile
from mlship.project.config import AllowedPickle, Config
from mlship.project.config import Gpu as GpuSection

REFERENCE = Path(__file__).parents[2] / "docs/reference.md"
COMMANDS = (
    "init",
    "lock",
    "plan",
    "dockerfile",
    "build",
    "smoke",
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


def members(kind: type[HostProfile | Gpu], meanings: dict[str, str]) -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = "required" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"
        yield f"| `{field.name}` | {default} | {meanings[field.name]} |"


def codes() -> Iterator[str]:
    for kind in sorted(errors.MlshipError.__subclasses__(), key=lambda kind: kind.exit_code):
        yield f"| {kind.exit_code} | {(kind.__doc__ or '').strip()} |"


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
        gpu="\n".join(members(Gpu, GPU)),
        codes="\n".join(codes()),
    )


def test_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    made = reference(monkeypatch)
    if request.config.getoption("--update-golden"):
        REFERENCE.write_text(made)
    assert REFERENCE.read_text() == made
