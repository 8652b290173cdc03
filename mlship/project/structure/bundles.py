"""The variables of a TensorFlow SavedModel: an index, and files that have exactly the size that it says.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/tensor_bundle/tensor_bundle.h, and
https://github.com/google/leveldb/blob/main/doc/table_format.md for the index.
"""

from collections import Counter
from collections.abc import Iterator

from mlship.project.structure.cursor import Buffer, require
from mlship.project.structure.protobuf import VARINT, fields, varint

_FOOTER, _TRAILER = 48, 5  # bytes
_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_SHARD, _OFFSET, _SIZE = 3, 4, 5  # of BundleEntryProto
_MOST = 1_000_000  # entries


def shard_sizes(index: Buffer) -> dict[int, int]:
    """Bytes of each data file, by number.

    Raises:
        ValueError or IndexError: the index is not whole.
    """
    footer = len(index) - _FOOTER
    require(footer >= 0 and index[len(index) - len(_MAGIC) :] == _MAGIC, "no index of variables")
    _, at = varint(index, footer)
    _, at = varint(index, at)
    sizes: Counter[int] = Counter()
    for _, handle in _entries(index, at):
        for key, (start, end) in _entries(index, handle[0]):
            if key:  # the empty key is about the index itself
                values = {n: varint(index, s[0])[0] for n, wire, s in fields(index, (start, end)) if wire == VARINT}
                shard = values.get(_SHARD, 0)
                sizes[shard] = max(sizes[shard], values.get(_OFFSET, 0) + values.get(_SIZE, 0))
    return dict(sizes)


def _entries(index: Buffer, handle: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Keys, and where their values are, of the block that a handle points to."""
    start, at = varint(index, handle)
    size, _ = varint(index, at)
    end = start + size
    require(end + _TRAILER <= len(index) and index[end] == 0, "a block outside of the file, or compressed")
    restarts = int.from_bytes(index[end - 4 : end], "little")
    end -= 4 + 4 * restarts
    require(start <= end, "a block that is too short")
    key, at = b"", start
    for _ in range(_MOST):
        if at >= end:
            require(at == end, "an entry outside of its block")
            return
        shared, at = varint(index, at)
        more, at = varint(index, at)
        length, at = varint(index, at)
        require(shared <= len(key) and at + more + length <= end, "an entry outside of its block")
        key = key[:shared] + index[at : at + more]
        yield key, (at + more, at + more + length)
        at += more + length
    raise ValueError("too many entries")
