"""Files of XGBoost and LightGBM, read to their last byte."""

import re

from pydantic_core import from_json

from mlship.project.structure.cursor import Buffer, Cursor, require

_DEPTH = 64
_JSON = 24 << 20  # bytes
_CONTAINERS = 500_000  # lists and objects in it, which take memory when it is parsed
_VALUES = 2_000_000  # that Python visits; arrays of one type count as one
_WIDTHS = {"i": 1, "U": 1, "I": 2, "l": 4, "L": 8, "d": 4, "D": 8}
_SINGLE = frozenset("TFNZ")
# sizeof of the parameters: https://github.com/dmlc/xgboost/blob/v2.0.3/src/learner.cc and src/gbm, src/tree
_LEARNER, _GBTREE, _GBLINEAR, _TREE, _NODE, _STATISTICS = 136, 160, 136, 148, 20, 16
_LIGHTGBM_HEAD = 32 << 20  # bytes
_LIGHTGBM_TAIL = re.compile(
    rb"(?:\n*(?:feature_importances:|parameters:|end of parameters|pandas_categorical:[^\n]*|loaded_parameters:"
    rb"|end of loaded_parameters|\[[^\n]*\]|[^\n=:]+=[^\n]*))*+\n*"
)


def xgboost_ubj(data: Buffer) -> None:
    """Universal Binary JSON as XGBoost writes it: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html."""
    cursor = Cursor(data, 0, ">")
    reader = _Ubj(cursor)
    names = reader.members(0) if cursor.take(1) == b"{" else set()
    require("learner" in names, "no learner")
    cursor.finish()


class _Ubj:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.values = 0

    def members(self, depth: int) -> set[str]:
        require(depth < _DEPTH, "too deep")
        names = set()
        while self.cursor.data[self.cursor.at : self.cursor.at + 1] != b"}":
            names.add(self.text())
            self.value(depth + 1)
        self.cursor.skip(1)
        return names

    def text(self) -> str:
        return self.cursor.take(self.length()).decode()

    def length(self) -> int:
        code = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q"}[chr(self.cursor.number("B"))]
        return self.cursor.number(code)

    def value(self, depth: int, kind: str | None = None) -> None:
        self.values += 1
        require(depth < _DEPTH and self.values < _VALUES, "too many values")
        kind = kind or chr(self.cursor.number("B"))
        if kind in _WIDTHS:
            self.cursor.skip(_WIDTHS[kind])
        elif kind == "S":
            self.cursor.skip(self.length())
        elif kind == "{":
            self.members(depth)
        elif kind == "[":
            self.array(depth)
        else:
            require(kind in _SINGLE, "unknown type")

    def array(self, depth: int) -> None:
        mark = self.cursor.data[self.cursor.at : self.cursor.at + 1]
        kind = None
        if mark == b"$":
            kind = chr(self.cursor.take(2)[1])
            mark = self.cursor.data[self.cursor.at : self.cursor.at + 1]
            require(mark == b"#", "a type without a count")
        if mark == b"#":
            self.cursor.skip(1)
            count = self.length()
            if kind in _WIDTHS:
                self.cursor.skip(_WIDTHS[kind] * count)
                return
            for _ in range(count):
                self.value(depth + 1, kind)
            return
        while self.cursor.data[self.cursor.at : self.cursor.at + 1] != b"]":
            self.value(depth + 1)
        self.cursor.skip(1)


def xgboost_json(data: Buffer) -> None:
    """One JSON value; of a large file, the beginning and the last byte count. No unpickler runs one: `{` is no opcode.

    https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
    """
    require(b'"learner"' in data[:1024] or b'"learner"' in data[max(0, len(data) - (1 << 20)) :], "no learner")
    head = data[:_JSON]
    require(head.count(b"{") + head.count(b"[") <= _CONTAINERS, "too many lists and objects")
    if len(data) <= _JSON:
        from_json(head)
        return
    require(data[len(data) - 64 :].rstrip().endswith(b"}"), "it ends too early")
    cut = head.rfind(b",")
    require(cut > 0, "not one JSON value")
    try:  # a comma is no part of a number or a character
        from_json(head[:cut])
    except ValueError as error:
        require(str(error).startswith("EOF while parsing"), "not one JSON value")
    else:
        raise ValueError("not one JSON value")


def xgboost_binary(data: Buffer) -> None:
    """The format before 3.1, called deprecated since 1.0; written for names without .json and .ubj."""
    cursor = Cursor(data, 4 if data[:4] == b"binf" else 0)
    start = cursor.at
    cursor.skip(_LEARNER)
    attributes, metrics = (int.from_bytes(data[start + n : start + n + 4], "little") for n in (12, 16))
    require(attributes in (0, 1) and metrics in (0, 1), "not a flag")
    objective, booster = cursor.text(), cursor.text()
    require(re.fullmatch(r"[a-z]+:[a-z0-9]+", objective) is not None, "no objective")
    if booster == "gblinear":
        cursor.skip(_GBLINEAR)
        cursor.skip(4 * cursor.number("Q"))
    else:
        require(booster in ("gbtree", "dart"), "no booster")
        _trees(cursor, dart=booster == "dart")
    if attributes:
        for _ in range(_few(cursor)):
            cursor.text()
            cursor.text()
    if objective == "count:poisson" and cursor.left:  # before 1.0
        cursor.text()
    for _ in range(_few(cursor) if metrics and cursor.left else 0):
        cursor.text()
    cursor.finish()


def _few(cursor: Cursor) -> int:
    count = cursor.number("Q")
    require(count <= cursor.left // 8, "a count that does not fit")
    return count


def _trees(cursor: Cursor, *, dart: bool) -> None:
    start = cursor.at
    cursor.skip(_GBTREE)
    trees = int.from_bytes(cursor.data[start : start + 4], "little")
    for _ in range(trees):
        at = cursor.at
        cursor.skip(_TREE)
        nodes, leaves = (int.from_bytes(cursor.data[at + n : at + n + 4], "little") for n in (4, 20))
        cursor.skip((_NODE + _STATISTICS) * nodes)
        if leaves > 1:
            cursor.skip(4 * cursor.number("Q"))
    cursor.skip(4 * trees)
    if dart and trees:
        cursor.skip(4 * cursor.number("Q"))


def lightgbm(data: Buffer) -> None:
    """Header, trees of the sizes in the header, and what follows them.

    https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp
    """
    start = data.find(b"\nTree=", 0, _LIGHTGBM_HEAD) + 1 or data.find(b"\nend of trees", 0, _LIGHTGBM_HEAD) + 1
    require(start > 0, "no trees")
    header = dict(line.partition(b"=")[::2] for line in data[:start].splitlines()[1:])
    require({b"version", b"num_class", b"max_feature_idx", b"tree_sizes"} <= set(header), "the header lacks keys")
    for number, size in enumerate(map(int, header[b"tree_sizes"].split())):
        require(size > 0 and data[start : start + 16].startswith(b"Tree=%d\n" % number), "a tree is not in its place")
        start += size
    require(data[len(data) - 1 :] == b"\n", "it ends in a line")
    require(data[start : start + 13] == b"end of trees\n", "the trees do not end")
    require(_LIGHTGBM_TAIL.fullmatch(data, start + 13) is not None, "unknown lines after the trees")
