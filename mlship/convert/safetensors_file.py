"""Writes tensors as safetensors, and compares what was written with the original.

https://github.com/huggingface/safetensors#format
"""

import json
import struct
from pathlib import Path

from mlship.convert.torch_state import TorchState
from mlship.errors import CheckFailed


def write_safetensors(state: TorchState, target: Path) -> None:
    """Write all tensors; widest elements first, as the format's own library does, so that each is aligned."""
    order = sorted(state.tensors.items(), key=lambda item: (-item[1].dtype.width, item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in order:
        header[name] = {
            "dtype": tensor.dtype.name,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.size],
        }
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
