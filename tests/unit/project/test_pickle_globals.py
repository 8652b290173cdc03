"""Everything that loading an allowed file would use is known or named by the user."""

import hashlib
import io
import json
import pickle
import pickletools
import sys
from collections import OrderedDict
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import IO
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project import weights
from mlship.project.config import AllowedPickle, Model
from mlship.project.formats import identify
from mlship.project.model_code import loaded_names
from mlship.project.pickle_globals import pickle_globals, unlisted
from mlship.project.weights import check_weights
from tests.helpers.model_files import keras, skops, zipped
from tests.helpers.sampling import examples


def wrapper_of_joblib() -> bytes:
    """The pickle of joblib's wrapper for two numbers, up to where the array follows."""
    kind = type("NumpyArrayWrapper", (), {"__module__": "joblib.numpy_pickle"})
    module = ModuleType("joblib.numpy_pickle")
    vars(module)["NumpyArrayWrapper"] = kind
    wrapper = kind()
    vars(wrapper).update(
        subclass=np.ndarray, shape=(2,), order="C", dtype=np.dtype("f8"), numpy_array_alignment_bytes=16
    )
    with patch.dict(sys.modules, {"joblib": ModuleType("joblib"), "joblib.numpy_pickle": module}):
        return pickle.dumps(wrapper, 2)[:-1]


def reads(data: bytes) -> frozenset[str]:
    return pickle_globals(io.BytesIO(data))


class Attack:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


HOSTILE = [
    b"cposix\nsystem\n(S'id'\ntR.",
    b"(S'id'\nios\nsystem\n.",
    b"(cos\nsystem\nS'id'\no.",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
    b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    b"\x80\x04\x8c\x0bsklearn.svm\x8c\x09os.system\x93.",
    b"\x80\x04\x8c\x05numpy\x8c\x13testing._private.np\x93.",
    b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.",
    b"\x80\x04\x8c\x06joblib\x8c\x04load\x93.",
    b"\x80\x04\x8c\x16sklearn.externals.joblib\x8c\x04load\x93.".replace(b"\x16", b"\x18"),
    b"\x80\x04\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93.",
    b"\x80\x04\x8c\x06pandas\x8c\x0bread_pickle\x93.",
    b"\x80\x04\x8c\x08operator\x8c\x0aattrgetter\x93.",
    b"\x80\x04\x8c\x09functools\x8c\x06reduce\x93.",
    b"\x80\x04\x8c\x05types\x8c\x0cFunctionType\x93.",
    b"\x80\x04\x8c\x07asyncio\x8c\x03run\x93.",
    b"\x80\x04\x8c\x06timeit\x8c\x06timeit\x93.",
    b"\x80\x04\x8c\x03pip\x8c\x04main\x93.",
]


@pytest.mark.parametrize("content", HOSTILE)
def test_what_no_framework_needs_is_named(content: bytes) -> None:
    assert unlisted(reads(content))


@pytest.mark.parametrize("protocol", range(6))
def test_values_arrays_and_containers_are_known(protocol: int) -> None:
    values = [
        np.zeros((3, 2)),
        np.float32(1),
        OrderedDict(a=1),
        {1, 2},
        frozenset("a"),
        slice(1),
        1j,
        bytearray(b"x"),
        b"y",
    ]
    values += [date(2026, 1, 1), np.random.RandomState(0), np.dtype("f4")]
    assert unlisted(reads(pickle.dumps(values, protocol))) == ()


def test_an_array_of_joblib_is_skipped_and_also_read_as_opcodes() -> None:
    wrapper, padding, array = wrapper_of_joblib(), b"\x02\xff\xff", np.zeros(2).tobytes()
    call = b"cos\nsystem\n(S'id'\ntR."
    assert unlisted(reads(wrapper + padding + array + b".")) == ()
    assert "os.system" in reads(wrapper + padding + array + call)
    assert "os.system" in reads(wrapper + call.ljust(1 + ord("c") + 16, b"x") + b".")


@pytest.mark.parametrize(
    "content", [b"\x80\x04\x82\x01.", b"\x80\x04", b"\x80\x04K\x01K\x02\x93.", b"cos\n", b"\x80\x04K\x01"]
)
def test_what_cannot_be_read_to_its_end_is_not_called_known(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        reads(content)


class Recorder(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        self.found.add(f"{module}.{name}")
        return dict

    def persistent_load(self, _id: object) -> object:
        return None


@given(data=st.data())
@settings(max_examples=examples(300))
def test_every_name_that_an_unpickler_asks_for_is_found(data: st.DataObject) -> None:
    """Also of damaged pickles: either the same names, or it says that it cannot read them."""
    content = bytearray(pickle.dumps([np.zeros(3), Attack(print, "a"), OrderedDict(a=1)], data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from([ord(opcode.code) for opcode in pickletools.opcodes])
        )
    recorder = Recorder(io.BytesIO(content))
    try:
        recorder.load()
    except Exception:  # noqa: BLE001  whatever an unpickler raises
        return
    with suppress(ValueError):
        assert recorder.found <= reads(bytes(content))


def allowing(path: Path, *, until: date | None = None, trusted: tuple[str, ...] = ()) -> Model:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = AllowedPickle(path=path.name, sha256=digest, reason="trained by us", until=until, trusted=trusted)
    return Model.model_construct(weights=(path.name,), allow_pickle=(entry,))


def test_an_allowed_file_may_use_what_the_user_trusts_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(zipped({"net/data.pkl": b"\x80\x02cour.net\nNet\n)\x81."}))
    with pytest.raises(UsageError, match=r"would use our\.net\.Net when it is loaded") as caught:
        check_weights(tmp_path, allowing(path))
    assert "trusted: [our.net.Net]" in caught.value.hint
    assert check_weights(tmp_path, allowing(path, trusted=("our.net.Net",)))


def test_an_allowed_file_is_refused_after_its_last_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    last = date(2026, 6, 30)
    monkeypatch.setattr(weights, "today", lambda: last)
    assert check_weights(tmp_path, allowing(path, until=last))
    monkeypatch.setattr(weights, "today", lambda: date(2026, 7, 1))
    with pytest.raises(UsageError, match="until 2026-06-30") as caught:
        check_weights(tmp_path, allowing(path, until=last))
    assert "`until: 2026-12-28`" in caught.value.hint


def test_skops_files_need_an_entry_only_for_types_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(skops("sklearn.preprocessing._data.StandardScaler"))
    none = Model.model_construct(weights=(path.name,), allow_pickle=())
    assert check_weights(tmp_path, none)
    path.write_bytes(skops("our.steps.Cleaner", "os.system"))
    with pytest.raises(UsageError, match=r"our\.steps\.Cleaner") as caught:
        check_weights(tmp_path, none)
    assert "trusted: [os.system, our.steps.Cleaner]" in caught.value.hint
    assert "path: model.skops" in caught.value.hint
    path.write_bytes(skops("our.steps.Cleaner"))
    assert check_weights(tmp_path, allowing(path, trusted=("our.steps.Cleaner",)))


def _named(module: str | None, name: str) -> dict[str, object]:
    """A class in a configuration of Keras, or a function."""
    is_class = name[0].isupper()
    return {"module": module, "class_name": name if is_class else "function", "config": {} if is_class else name}


@pytest.mark.parametrize(
    ("module", "name", "is_known"),
    [
        ("keras.layers", "Dense", True),
        ("keras.src.ops.numpy", "Add", True),
        ("keras_hub.src.models.gemma", "Gemma", True),
        ("keras.activations", "gelu", True),
        ("builtins", "relu", True),
        (None, "Ours", True),  # registered by the program that loads it
        ("builtins", "exec", False),
        ("keras.utils", "get_file", False),
        ("keras.models", "load_model", False),
        ("keras.layers", "TorchModuleWrapper", False),
        ("keras.layers", "TFSMLayer", False),
        ("our.layers", "Ours", False),
        ("kerasx.layers", "Dense", False),
    ],
)
def test_keras_imports_only_what_it_defines(tmp_path: Path, module: str | None, name: str, is_known: bool) -> None:
    path = tmp_path / "model.keras"
    layers = [_named("keras.layers", "Dense"), _named(module, name)]
    path.write_bytes(keras(json.dumps({**_named("keras", "Sequential"), "config": {"layers": layers}})))
    names = loaded_names(path, identify(path))
    assert names == (frozenset() if is_known else {f"{module}.{name}"})
    assert unlisted(names) == tuple(names)


def test_a_keras_model_with_layers_of_the_user_needs_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(keras(json.dumps(_named("our.layers", "Ours"))))
    with pytest.raises(UsageError, match=r"our\.layers\.Ours") as caught:
        check_weights(tmp_path, Model.model_construct(weights=(path.name,), allow_pickle=()))
    assert "trusted: [our.layers.Ours]" in caught.value.hint
    assert check_weights(tmp_path, allowing(path, trusted=("our.layers.Ours",)))


def test_what_a_call_returns_may_be_called() -> None:
    """As in what cloudpickle writes for a function."""
    made = b"cours\nget\n(S'CodeType'\ntR(S'x'\ntRcours\nset\n(S'y'\ntR."
    assert reads(made) == {"ours.get", "ours.set"}


@pytest.mark.parametrize(
    "name",
    [
        # GradientBoosting*, HistGradientBoosting*, MLP*, SGD* and SplineTransformer of scikit-learn 1.5 and 1.9.
        "_loss.CyHalfSquaredError",
        "_loss.__pyx_unpickle_CyAbsoluteError",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss._loss.CyAbsoluteError",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.linear_model._sgd_fast.Log",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
    ],
)
def test_what_usual_estimators_import_is_known(name: str) -> None:
    assert unlisted([name]) == ()
    assert unlisted([f"x.{name}"]) == (f"x.{name}",)
