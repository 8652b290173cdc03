"""`mlship export`: the build as a folder that Docker, buildx bake and BuildKit build without mlship."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship.build.prepare import Prepared
from mlship.build.run import BuildOptions, request
from mlship.engine.base import BuildRequest
from mlship.errors import UsageError
from mlship.files import check_new
from mlship.image.dockerfile import copied_paths, dockerfile
from mlship.leftovers import temporary_folder
from mlship.lock.secrets import SECRETS
from mlship.project.paths import LEFT_OUT, is_private
from mlship.redact import redact
from mlship.render import render

REPOSITORY = "repository"  # these two folders keep the files of the repository and of mlship apart
OWN = "mlship"


@dataclass(frozen=True)
class Exported:
    """A written export.

    Attributes:
        files: number of files in it.
        secrets: the secrets that a build on this machine uses, by id.
    """

    folder: Path
    files: int
    secrets: tuple[str, ...]


def export(prepared: Prepared, folder: Path, secrets: Path | None = None) -> Exported:
    """Write the Dockerfile and every file that it copies or mounts.

    Args:
        folder: a new folder; it appears complete or not at all.
        secrets: a new folder for pip's settings on this machine, which may hold credentials.

    Raises:
        UsageError: a folder exists, or is part of what the image copies.
    """
    if secrets and secrets.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"`{secrets}` is in the exported folder, which must not hold credentials", hint="name another folder"
        )
    for path in (folder, secrets) if secrets else (folder,):
        _check_folder(prepared, path)
    asked = request(prepared, prepared.plan.tag, BuildOptions())
    with temporary_folder("export", beside=folder) as temporary:
        new = temporary / folder.name
        new.mkdir()
        _write(prepared, asked, new)
        files = sum(len(names) for _, _, names in os.walk(new))
        if secrets:
            _write_secrets(asked, secrets)
        new.rename(folder)
    return Exported(folder, files, tuple(sorted(asked.secrets)))


def _check_folder(prepared: Prepared, folder: Path) -> None:
    check_new(folder)
    repo, place = prepared.repo.resolve(), folder.resolve()
    for path in copied_paths(prepared.plan):
        if place.is_relative_to((repo / path).resolve()):
            raise UsageError(
                f"`{folder}` is in `{path}`, which the image copies", hint="name a folder outside of the repository"
            )


def _write(prepared: Prepared, asked: BuildRequest, folder: Path) -> None:
    for path in copied_paths(prepared.plan):
        _copy(prepared.repo / path, folder / REPOSITORY / path)
    for path in (path for path in prepared.linked if not _left_out("", [PurePosixPath(path).name])):
        _copy(prepared.repo / path, folder / REPOSITORY / path)
    for name, source in asked.contexts.items():
        shutil.copytree(source, folder / OWN / name)
        for empty in (path for path in (folder / OWN / name).iterdir() if not any(path.iterdir())):
            (empty / ".keep").touch()  # git keeps no empty folders
    for name, files in asked.folders.items():
        for path, content in files.items():
            target = folder / OWN / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    contexts = {name.name: f"{OWN}/{name.name}/" for name in sorted((folder / OWN).iterdir())}
    texts = {
        "Dockerfile": dockerfile(prepared.plan, f"{REPOSITORY}/", contexts),
        "docker-bake.json": _bake(asked),
        "README.md": render("export.md.j2", plan=prepared.plan, secrets=SECRETS, indexes=_indexes(asked)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _copy(source: Path, target: Path) -> None:
    """Copy what the .dockerignore of `mlship build` admits; links stay links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=_left_out, dirs_exist_ok=True)
    else:
        target.unlink(missing_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in LEFT_OUT or is_private(name)}


def _bake(asked: BuildRequest) -> str:
    """The default target; without attestations, as in `mlship build`: they add times and change the digest."""
    target = {
        "context": ".",
        "platforms": [asked.platform],
        "tags": [asked.tag],
        "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
    }
    return json.dumps({"target": {"default": target}}, indent=2) + "\n"


def _indexes(asked: BuildRequest) -> list[str]:
    """The lines of the settings that choose package indexes, without credentials."""
    lines = asked.secrets.get("mlship-env", b"").decode().splitlines()
    return [redact(line) for line in lines if re.search(r"INDEX|FIND_LINKS", line)]


def _write_secrets(asked: BuildRequest, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name, value in asked.secrets.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(value)
