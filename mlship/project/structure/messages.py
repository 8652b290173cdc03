"""The messages of ONNX, SentencePiece and SavedModel, as `protobuf.walk` reads them."""

from itertools import islice

from mlship.project.structure.cursor import Buffer, require
from mlship.project.structure.keras import mentions_code
from mlship.project.structure.protobuf import BYTES, FIXED32, FIXED64, VARINT, Schema, Span, Visit, fields, walk

_V, _L, _B, _F = VARINT, FIXED64, BYTES, FIXED32
_ANY = -1
_TOP = 100_000  # fields of the outermost message
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
ONNX: Schema = {
    "Model": {
        1: _V, 2: _B, 3: _B, 4: _B, 5: _V, 6: _B, 7: "Graph", 8: "Opset", 14: "Entry", 20: "Training", 25: "Function",
        26: "Configuration",
    },
    "Opset": {1: _B, 2: _V},
    "Entry": {1: _B, 2: _B},
    "Training": {1: "Graph", 2: "Graph", 3: "Entry", 4: "Entry"},
    "Configuration": {1: _B, 2: _V, 3: _B},
    "Function": {
        1: _B, 4: _B, 5: _B, 6: _B, 7: "Node", 8: _B, 9: "Opset", 10: _B, 11: "Attribute", 12: "Value", 13: _B,
        14: "Entry",
    },
    "Graph": {
        1: "Node", 2: _B, 5: "Tensor", 10: _B, 11: "Value", 12: "Value", 13: "Value", 14: "Annotation", 15: "Sparse",
        16: "Entry",
    },
    "Node": {
        1: _B, 2: _B, 3: _B, 4: _B, 5: "Attribute", 6: _B, 7: _B, 8: _B, 9: "Entry", 10: "NodeConfiguration",
    },
    "NodeConfiguration": {1: _B, 2: "Sharding", 3: _V},
    "Sharding": {1: _B, 2: _V, 3: "Any", 4: "Any"},
    "Attribute": {
        1: _B, 2: _F, 3: _V, 4: _B, 5: "Tensor", 6: "Graph", 7: _F, 8: _V, 9: _B, 10: "Tensor", 11: "Graph", 13: _B,
        14: "Type", 15: "Type", 20: _V, 21: _B, 22: "Sparse", 23: "Sparse",
    },
    "Tensor": {
        1: _V, 2: _V, 3: "Segment", 4: _F, 5: _V, 6: _B, 7: _V, 8: _B, 9: _B, 10: _L, 11: _V, 12: _B, 13: "Entry",
        14: _V, 16: "Entry",
    },
    "Segment": {1: _V, 2: _V},
    "Sparse": {1: "Tensor", 2: "Tensor", 3: _V},
    "Annotation": {1: _B, 2: "Entry"},
    "Value": {1: _B, 2: "Type", 3: _B, 4: "Entry"},
    "Type": {1: "TensorType", 4: "Sequence", 5: "Map", 6: _B, 7: "Opaque", 8: "TensorType", 9: "Sequence"},
    "Opaque": {1: _B, 2: _B},
    "TensorType": {1: _V, 2: "Shape"},
    "Shape": {1: "Dimension"},
    "Dimension": {1: _V, 2: _B, 3: _B},
    "Sequence": {1: "Type"},
    "Map": {1: _V, 2: "Type"},
    "Any": {0: _ANY},
}  # fmt: skip
# https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto; extensions start at 200
_SENTENCEPIECE: Schema = {
    "Model": {1: _B, 2: "Any", 3: "Any", 4: "Any", 5: "Any"},
    "Any": {0: _ANY},
}
_UNKNOWN_PIECE = b"<unk>"
# https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/saved_model.proto, meta_graph.proto
_SAVEDMODEL: Schema = {
    "Model": {1: _V, 2: "MetaGraph"},
    "MetaGraph": {1: "Any", 2: "Graph", 3: "Any", 4: "Any", 5: "Any", 6: "Any", 7: _B},
    "Graph": {1: "Any", 2: "Any", 3: _V, 4: "Any", 5: _B},
    "Any": {0: _ANY},
}


# fingerprint.proto and keras/protobuf/saved_metadata.proto beside it
_FINGERPRINT: Schema = {"Model": {1: _V, 2: _V, 3: _V, 4: _V, 5: _V, 6: _B, 7: "Any"}, "Any": {0: _ANY}}
_KERAS: Schema = {"Model": {1: "Object"}, "Object": {2: _V, 3: _B, 4: _B, 5: _B, 6: "Any"}, "Any": {0: _ANY}}


def walk_onnx(data: Buffer, visit: Visit | None = None) -> None:
    """Check a model to its last byte: a version, operators and one graph with outputs."""
    present = [number for number, _, _ in islice(fields(data, (0, len(data))), _TOP)]
    require(len(present) < _TOP, "too many fields")
    require({1, 8} <= set(present) and present.count(7) == 1, "no version, no operators or not one graph")
    walk(data, ONNX, "Model", visit)


def sentencepiece(data: Buffer) -> None:
    """A vocabulary: pieces with a text, a score and a type, then how it was made."""
    pieces: list[Span] = []

    def visit(name: str, span: Span) -> None:
        if name == "Model":
            pieces.extend(extent for number, _, extent in fields(data, span) if number == 1)

    walk(data, _SENTENCEPIECE, "Model", visit)
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
    walk(data, _SAVEDMODEL, "Model")


def fingerprint(data: Buffer) -> None:
    """Hashes of a SavedModel."""
    walk(data, _FINGERPRINT, "Model")


def keras_metadata(data: Buffer) -> bool:
    """Layers of a SavedModel of Keras 2; whether one is code."""
    walk(data, _KERAS, "Model")
    return mentions_code(data[:])
