"""Converts a model file into a format that runs no code when loaded, or that is mapped instead of copied."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlship import __version__
from mlship.convert.onnx_external import compare_external, write_external
from mlship.convert.safetensors_file import compare_safetensors, write_safetensors
from mlship.convert.torch_state import open_torch_state
from mlship.errors import UsageError
from mlship.files import check_new, read_regular, save_new, sha256_file
from mlship.frameworks import framework_table
from mlship.project.formats import identify
from mlship.project.training import read_training


@dataclass(frozen=True)
class Conversion:
    """A conversion that was compared with its original.

    Attributes:
        files: what was written.
        tensors: how many were compared; each is the same bit for bit.
        record: the record of the training that was written for the new files; None if not wanted.
    """

    source: str
    files: tuple[str, ...]
    tensors: int
    record: str | None = None


def convert(source: Path, target: Path, key: str | None, record: Path | None) -> Conversion:
    """Convert by the format of the source and the suffix of the target.

    Args:
        key: of the state dict in a checkpoint of torch.
        record: of the training; a new one beside the target gets the new files.

    Raises:
        UsageError: there is no such conversion, the source is damaged, or a file to write exists.
        CheckFailed: what was written differs from the source, or the source from its record.
    """
    if not source.is_file():
        raise UsageError(f"no file `{source}`", hint="name the model file to convert")
    kind = identify(source)
    if (kind, target.suffix) == ("torch", ".safetensors"):
        files: tuple[Path, ...] = (target,)
    elif (kind, target.suffix) == ("onnx", ".onnx"):
        files = (target, target.with_name(f"{target.name}.data"))
    else:
        raise _impossible(source, target, kind)
    if key is not None and kind != "torch":
        raise UsageError("`--key` is for checkpoints of torch", hint="remove `--key`")
    new_record = target.parent / record.name if record else None
    for path in (*files, *([new_record] if new_record else ())):
        check_new(path)
    document = _new_record(source, record) if record else None
    with _beside(files) as temporary:
        tensors = _torch(source, temporary[0], key) if kind == "torch" else _onnx(source, temporary, files[1].name)
        for one, path in zip(temporary[::-1], files[::-1], strict=True):
            _place(one, path)
    if new_record and document is not None:
        described = {path.name: {"sha256": _sha256(path), "size": path.stat().st_size} for path in files}
        save_new(new_record, json.dumps({**document, "files": described}, indent=2) + "\n")
    return Conversion(str(source), tuple(map(str, files)), tensors, str(new_record) if new_record else None)


def _torch(source: Path, target: Path, key: str | None) -> int:
    state = open_torch_state(source, str(source), key)
    write_safetensors(state, target)
    return compare_safetensors(state, target)


def _onnx(source: Path, files: tuple[Path, ...], name: str) -> int:
    moved = write_external(source, str(source), files[0], files[1], name)
    compare_external(source, files[0], files[1])
    return moved


def _impossible(source: Path, target: Path, kind: str) -> UsageError:
    row = framework_table().formats.get(kind)
    known = {"torch": "a name with .safetensors", "onnx": "a name with .onnx, for its tensors in a second file"}
    if kind in known:
        return UsageError(f"cannot convert `{source}` to `{target.name}`", hint=f"as target, give {known[kind]}")
    fix = row.fix.format(path=source, stem=source.with_suffix("")) if row and row.fix else ""
    return UsageError(
        f"`{source}` is neither a state dict of torch nor ONNX, which `mlship convert` reads without running code",
        hint=fix or "use it as it is, or export it to ONNX or safetensors where it was trained",
    )


def _new_record(source: Path, record: Path) -> dict[str, object]:
    """The record without its files, and with what the new ones are made from.

    Raises:
        UsageError: it does not describe the source.
    """
    training = read_training(record, str(record))
    digest = _sha256(source)
    names = [name for name, file in training.files.items() if file.sha256 == digest]
    if not names or len(training.files) != 1:
        raise UsageError(
            f"`{record}` describes {', '.join(training.files) or 'no file'}, and not `{source}` alone",
            hint="name the record of the training that wrote this file",
        )
    document: dict[str, object] = json.loads(read_regular(record))
    return {
        **document,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "converted": {"from": names[0], "sha256": digest, "trained": document.get("created"), "mlship": __version__},
    }


def _sha256(path: Path) -> str:
    return sha256_file(path).removeprefix("sha256:")


@contextmanager
def _beside(files: tuple[Path, ...]) -> Iterator[tuple[Path, ...]]:
    """Paths on the same disk that are removed at the end."""
    with tempfile.TemporaryDirectory(dir=files[0].parent, prefix=".convert-") as folder:
        yield tuple(Path(folder, path.name) for path in files)


def _place(file: Path, target: Path) -> None:
    """Give a finished file its name, unless something has it by now."""
    file.chmod(0o644)
    try:
        os.link(file, target)
    except FileExistsError:
        check_new(target)
