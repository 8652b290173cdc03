"""The messages of ONNX, SentencePiece and SavedModel, as `protobuf.walk` reads them."""

from itertools import islice

from mlship.project.structure.cursor import Buffer, require
from mlship.project.structure.keras import mentions_code
from mlship.project.structure.protobuf import Span, Visit, fields, walk

_TOP = 100_000  # fields of the outermost message


def walk_onnx(data: Buffer, visit: Visit | None = None) -> None:
    """Check a model to its last byte: a version, operators and one graph with outputs."""
    present = [number for number, _, _ in islice(fields(data, (0, len(data))), _TOP)]
    require(len(present) < _TOP, "too many fields")
    require({1, 8} <= set(present) and present.count(7) == 1, "no version, no operators or not one graph")
    walk(data, "onnx", visit)


def sentencepiece(data: Buffer) -> None:
    """A vocabulary: pieces with a text, a score and a type, then how it was made."""
    pieces: list[Span] = []

    def visit(name: str, span: Span) -> None:
        if name == "Model":
            pieces.extend(extent for number, _, extent in fields(data, span) if number == 1)

    walk(data, "sentencepiece", visit)
    require(bool(pieces), "no pieces")
    for start, end in pieces:
        length = data[start + 1]
        if length < 0x80:
            after = data[start + 2 + length : start + 3 + length]
            require(
                data[start] == 0x0A and start + 2 + length <= end and after in (b"\x15", b"\x18", b"\x0a", b""),
                "no piece",
            )


def savedmodel(data: Buffer) -> None:
    """Version 1 and the graphs of TensorFlow."""
    present = {number for number, _, _ in islice(fields(data, (0, len(data))), _TOP)}
    require(present == {1, 2} and data[:2] == b"\x08\x01", "no version, or no graph")
    walk(data, "savedmodel")


def keras_metadata(data: Buffer) -> bool:
    """Layers of a SavedModel of Keras 2; whether one is code."""
    walk(data, "keras_metadata")
    return mentions_code(data[:])
