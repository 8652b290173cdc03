"""`mlship audit`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import Json, only_one, show_result
from mlship.console import emit, say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.audit.rules import AuditReport

_LARGEST = 4_000_000  # bytes of a Dockerfile
_CHUNK = 1 << 20
_FILE_NAME = re.compile(r"(?i)(?:docker|container)file[^/]*$|\.(?:tar|tgz|tar\.\w+)$")
_NAME = "name a Dockerfile, or an image that `docker save` wrote: plain, or compressed by gzip or zstd"


def audit_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|DOCKERFILE", help="Dockerfile, or an image: local, in a registry or a saved archive."
        ),
    ],
    stage: Annotated[str, typer.Option("--target", metavar="STAGE", help="Stage name or number. [default: last]")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a rule's verdict is unknown.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
    json: Json = False,
) -> None:
    """Check a Dockerfile or an image by rules for ML images. Needs no project.

    Each rule passes, fails, is unknown or not applicable. Nothing runs. What a Dockerfile's text does not decide is
    unknown: audit the image that it builds.

    Exit code 1: a rule failed; with `--strict` also if one is unknown.
    """
    from mlship.report.audit import sarif as as_sarif
    from mlship.report.audit import show_audit

    only_one({"--sarif": sarif, "--json": json})
    report = _report(target, stage)
    if sarif:
        emit(as_sarif(report))
    else:
        show_result(report, show_audit, json=json)
    if report.count("fail") or (strict and report.count("unknown")):
        raise typer.Exit(1)


def _report(target: str, stage: str) -> "AuditReport":
    from mlship.audit.judge_dockerfile import audit_dockerfile
    from mlship.audit.judge_image import audit_archive, audit_image
    from mlship.build.preflight import check_reference
    from mlship.files import check_readable
    from mlship.size.stream import is_compressed, is_tar

    path, data = Path(target), b""
    if path.exists():
        inside = [one for name in ("Dockerfile", "Containerfile") if (one := path / name).exists()]
        check_readable(path, f"run `mlship audit {inside[0]}`" if inside else _NAME)
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    elif target.startswith((".", "/", "~")) or _FILE_NAME.search(target):
        raise UsageError(f"no file `{target}`", hint="check the path, or name an image")
    is_archive = is_tar(data) or is_compressed(data)
    if stage and (is_archive or not path.exists()):
        raise UsageError("`--target` is for a Dockerfile", hint="remove it")
    if not path.exists():
        return audit_image(check_reference(target), say)
    if is_archive:
        with path.open("rb") as file:
            return audit_archive(iter(lambda: file.read(_CHUNK), b""), target)
    if len(data) > _LARGEST or b"\0" in data:
        raise UsageError(f"`{target}` is neither a Dockerfile nor an image", hint=_NAME)
    return audit_dockerfile(data.decode("utf-8", "replace"), target, stage)
