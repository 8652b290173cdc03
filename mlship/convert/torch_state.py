"""Reads the tensors of a torch state dict without torch or code of the file, and writes them as safetensors.

A pickle can only call what its reader hands out. This one hands out an ordered dictionary and two functions of its own,
which note where a tensor is; everything else is refused.
https://github.com/pytorch/pytorch/blob/v2.9.1/torch/serialization.py,
https://github.com/huggingface/safetensors#format
"""

import json
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

from mlship.errors import CheckFailed, UsageError
from mlship.project.structure.cursor import BROKEN
from mlship.project.structure.schemas import structure_table

_MOST = 64 << 20  # bytes of the pickle, which has names and places only
_EXPANDED = 64 << 20  # bytes of a tensor that is larger than its storage, because it repeats it
# What zipfile raises for damaged archives, and for what it does not support.
_UNREADABLE = (*BROKEN, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error)
_Format: TypeAlias = Literal["B", "H", "I", "Q"]
_FORMATS: Mapping[int, _Format] = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True)
class TorchType:
    """An element type, named as in safetensors; `width` in bytes."""

    name: str
    width: int


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is.

    Attributes:
        storage: name of the archive's member, after `data/`.
        offset: of the first element; it and the strides count elements.
    """

    dtype: TorchType
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.width


class TorchState:
    """The tensors of an open file, by name, in the order of the file."""

    def __init__(self, archive: zipfile.ZipFile, shown: str, key: str | None) -> None:
        self._archive = archive
        self._shown = shown
        self._last = ("", b"")
        members = archive.namelist()
        self._root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), "")
        if not self._root or f"{self._root}constants.pkl" in members:
            raise UsageError(
                f"`{shown}` is no state dict of torch",
                hint="save `model.state_dict()` with `torch.save` where the model was trained",
            )
        order = f"{self._root}byteorder"
        if order in members and archive.read(order) != b"little":
            raise UsageError(f"`{shown}` was saved on a big-endian machine", hint="save it on another one")
        self.tensors = self._read(key)

    def data(self, tensor: StoredTensor) -> bytes:
        """The elements of a tensor, in the order of its dimensions.

        Raises:
            UsageError: the file is shorter than the tensor, or damaged.
        """
        stored = self._storage(tensor.storage)
        width = tensor.dtype.width
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
        if tensor.size and (last + 1) * width > len(stored):
            raise self._damaged(f"storage {tensor.storage} is too short")
        if tensor.size > max(len(stored), _EXPANDED):
            raise self._damaged(f"a tensor repeats storage {tensor.storage} without end")
        if tensor.strides == contiguous(tensor.shape) or not tensor.size:
            return stored[tensor.offset * width : tensor.offset * width + tensor.size]
        whole = memoryview(stored[: len(stored) // width * width]).cast(_FORMATS[width])
        return b"".join(_rows(whole, tensor.offset, tensor.shape, tensor.strides))

    def _storage(self, name: str) -> bytes:
        """The bytes of a storage; of the last one again without reading, because tensors may share it."""
        if self._last[0] != name:
            try:
                self._last = (name, self._archive.read(f"{self._root}data/{name}"))
            except _UNREADABLE as error:
                raise self._damaged(f"storage {name} is missing or damaged") from error
        return self._last[1]

    def _read(self, key: str | None) -> Mapping[str, StoredTensor]:
        info = self._archive.getinfo(f"{self._root}data.pkl")
        if info.file_size > _MOST:
            raise self._damaged("its pickle is too large for a state dict")
        try:
            with self._archive.open(info) as file:
                found = _Reader(file, self._shown).load()
        except UsageError:
            raise
        except Exception as error:  # whatever a damaged pickle makes Python's reader raise
            raise self._damaged(type(error).__name__) from error
        if key is not None:
            found = dict.get(found, key) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            where = f"the key `{key}` of `{self._shown}`" if key else f"`{self._shown}`"
            raise UsageError(f"{where} is no dictionary of tensors", hint="save `model.state_dict()` with `torch.save`")
        items = list(dict.items(found))
        other = [name for name, value in items if not isinstance(name, str) or not isinstance(value, StoredTensor)]
        if other or not items:
            dictionaries = [name for name, value in items if isinstance(value, dict)]
            choice = f", or name the state dict: `--key {dictionaries[0]}`" if dictionaries and not key else ""
            raise UsageError(
                f"`{self._shown}` has more than tensors: {', '.join(map(repr, other[:5])) or 'it is empty'}",
                hint=f"save only `model.state_dict()` with `torch.save`{choice}",
            )
        return {name: value for name, value in items if isinstance(name, str) and isinstance(value, StoredTensor)}

    def _damaged(self, why: str) -> UsageError:
        return UsageError(f"`{self._shown}` is damaged: {why}", hint="copy or download it again")


def open_torch_state(path: Path, shown: str, key: str | None) -> TorchState:
    """A state dict that `torch.save` wrote (since torch 1.6).

    Args:
        key: of the state dict in a checkpoint that has more.

    Raises:
        UsageError: it is something else, damaged, or holds more than tensors.
    """
    try:
        return TorchState(zipfile.ZipFile(path), shown, key)
    except _UNREADABLE as error:
        raise UsageError(
            f"`{shown}` is not in torch's format since 1.6",
            hint="load it once with `torch.load(path, weights_only=True)`, and save it again with `torch.save`",
        ) from error


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor without gaps."""
    return tuple(math.prod(shape[number + 1 :]) for number in range(len(shape)))


def _rows(data: memoryview, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[bytes]:
    if not shape:
        yield data[offset : offset + 1].tobytes()
    elif len(shape) > 1:
        for index in range(shape[0]):
            yield from _rows(data, offset + index * strides[0], shape[1:], strides[1:])
    elif strides[0] == 0:
        yield data[offset : offset + 1].tobytes() * shape[0]
    else:
        yield data[offset : offset + (shape[0] - 1) * strides[0] + 1 : strides[0]].tobytes()


class _Reader(pickle._Unpickler):  # noqa: SLF001  the one in C allocates what the file says
    def __init__(self, file: IO[bytes], shown: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._shown = shown

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        rebuilds: dict[str, object] = {
            "_rebuild_tensor_v2": _tensor,
            "_rebuild_tensor_v3": _typed_tensor,
            "_rebuild_parameter": lambda tensor, *_: tensor,
        }
        if module == "torch._utils" and name in rebuilds:
            return rebuilds[name]
        if module in ("torch", "torch.storage") and name in structure_table().torch:
            dtype = structure_table().torch[name]
            return TorchType(dtype, structure_table().bits[dtype] // 8)
        raise UsageError(
            f"`{self._shown}` would use {module}.{name} when it is loaded, which a state dict does not need",
            hint="save `model.state_dict()` with `torch.save` where the model was trained; do not load this file",
        )

    def persistent_load(self, pid: object) -> object:
        kind, dtype, key = pid[:3] if isinstance(pid, tuple) and len(pid) >= 3 else (None, None, None)
        if kind != "storage" or not isinstance(dtype, TorchType) or not isinstance(key, str):
            raise ValueError("not a storage")
        return (dtype, key)


def _tensor(
    storage: tuple[TorchType, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
) -> StoredTensor:
    if any(rest[2:]):  # after `requires_grad` and the hooks: bits that change what the elements mean
        raise UsageError("a tensor is stored negated or conjugated", hint="call `resolve_neg()` and `resolve_conj()`")
    dtype, key = storage
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("not a tensor")
    return StoredTensor(dtype, key, offset, tuple(shape), tuple(strides))


def _typed_tensor(
    storage: tuple[TorchType, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
) -> StoredTensor:
    grad, hooks, dtype, *metadata = rest
    if not isinstance(dtype, TorchType):
        raise TypeError("not an element type")
    return _tensor((dtype, storage[1]), offset, shape, strides, grad, hooks, *metadata)


def write_safetensors(state: TorchState, target: Path) -> None:
    """Write all tensors; widest elements first, as the format's own library does, so that each is aligned."""
    order = sorted(state.tensors.items(), key=lambda item: (-item[1].dtype.width, item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in order:
        place = [end, end + tensor.size]
        header[name] = {"dtype": tensor.dtype.name, "shape": list(tensor.shape), "data_offsets": place}
        end += tensor.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in order:
            file.write(state.data(tensor))


def compare_safetensors(state: TorchState, target: Path) -> int:
    """Read the file and compare every tensor with the original, bit for bit; returns how many there are.

    Raises:
        CheckFailed: one differs.
    """
    with target.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
        header.pop("__metadata__")
        wrong = sorted(header.keys() ^ state.tensors.keys())
        for name, tensor in state.tensors.items():
            row = header.get(name, {})
            start, end = row.get("data_offsets", (0, 0))
            file.seek(8 + length + start)
            same = (row.get("dtype"), row.get("shape")) == (tensor.dtype.name, list(tensor.shape))
            if not same or file.read(end - start) != state.data(tensor):
                wrong.append(name)
    if wrong:
        raise CheckFailed(f"the tensor `{wrong[0]}` differs after the conversion", hint="report this with the file")
    return len(state.tensors)
