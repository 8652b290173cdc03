"""What the files of `mlship init` say: loader, server, sample and requirements."""

import re
from dataclasses import dataclass

from mlship.files import read_regular
from mlship.init.dependencies import Dependencies, choose_dependencies
from mlship.init.found import Detection
from mlship.init.generated import SERVING, server_needs, server_parts, server_source
from mlship.project.load import FILE_NAME as CONFIG

SAMPLE = "sample.json"


@dataclass(frozen=True)
class FilePlan:
    """What mlship.yaml names, or leaves open.

    Attributes:
        generated: `command` starts a server that is written.
        made_up: the text of a sample that is written: the example of a server's request, or one for a native model.
        parts: optional parts of that server.
    """

    load: str | None
    generated: bool
    sample: str | None
    made_up: str | None
    command: tuple[str, ...]
    dependencies: Dependencies
    source: tuple[str, ...]
    parts: frozenset[str]


def plan_files(found: Detection, wanted: frozenset[str]) -> FilePlan:
    """Choose them; `wanted` are options of `mlship init`, such as `shadow`."""
    *_, package = server_source(found)
    load = found.loader.value or (f"{package}.model:load" if found.native or found.cog else None)
    generated = found.server is None and load is not None
    handler = found.server.routes.handler if found.server else None
    example = f"{handler.example}\n" if handler and handler.example and not (found.root / SAMPLE).exists() else None
    made_up = None if found.sample.value else found.native.sample if found.native else example
    parts = server_parts(found, wanted, generated=generated)
    needs = server_needs(found, parts=parts) if generated else found.server.needs if found.server else ()
    source = {*found.source, *(server_source(found) if generated else ())}
    return FilePlan(
        load=load,
        generated=generated,
        sample=found.sample.value or (SAMPLE if made_up else None),
        made_up=made_up,
        command=("python", "-m", package) if generated else found.server.command if found.server else (),
        dependencies=choose_dependencies(found, tuple(sorted(needs))),
        source=tuple(sorted(source)) if found.server or load else (),
        parts=parts,
    )


def starts_generated(found: Detection) -> bool | None:
    """Whether the repository's mlship.yaml starts the generated server; None without the file."""
    path = found.root / CONFIG
    command = rf"^  command: \[python, -m, (model_)?{SERVING}\]"
    return bool(re.search(command, read_regular(path), re.MULTILINE)) if path.is_file() else None
