"""Converts a model, and compares both models on the sample. mlship runs it in a container without network.

    python program.py write SOURCE TARGET SAMPLE WORK KEY WORK/written.json
    python program.py compare TARGET SAMPLE WORK REPORT   in a second process, which loads the converted model only

Needs Python 3.8. What cannot be converted is no failure of the program: the report says why.
"""

import json
import os
import sys
import warnings
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RELATIVE, ABSOLUTE = 1e-3, 1e-5  # of single precision, after all operations of a model
LIBRARIES = (
    "scikit-learn",
    "skops",
    "keras",
    "tf-keras",
    "tensorflow",
    "tensorflow-cpu",
    "skl2onnx",
    "tf2onnx",
    "onnxruntime",
    "numpy",
)
OPSETS = {"": 18, "ai.onnx.ml": 3}  # what onnxruntime reads since 1.14
KERAS = (".keras", ".h5", ".hdf5")


class Refused(Exception):
    """No conversion, for the user: `stage` is load, key, sample, convert, or differs for one that is wrong."""

    def __init__(self, stage, text):
        super().__init__(text)
        self.stage = stage


def write(source, target, sample, work, key):
    import numpy

    rows = json.loads(Path(sample).read_text(encoding="utf-8"))
    if source.endswith(KERAS):
        inputs, outputs, trusted = write_keras(source, target, rows)
    else:
        inputs, outputs, trusted = write_sklearn(source, target, rows, key)
    report = {"trusted": trusted, "outputs": list(outputs)}
    named = {f"in{number}": array for number, array in enumerate(inputs)}
    named.update({f"out{number}": array for number, array in enumerate(outputs.values())})
    numpy.savez(f"{work}/arrays.npz", **{name: storable(array) for name, array in named.items()})
    return report


def write_sklearn(source, target, rows, key):
    import numpy

    model = part(attempt("load", "the model cannot be loaded", lambda: loaded(source)), key)
    table = table_of(rows)
    outputs = sklearn_outputs(model, table)
    if target.endswith(".skops"):
        from skops.io import dump, get_untrusted_types

        attempt("convert", "the model cannot be saved by skops", lambda: dump(model, target))
        return [], outputs, [str(name) for name in get_untrusted_types(file=target)]
    graph = attempt("convert", "the model cannot be converted to ONNX", lambda: onnx_of(model, table))
    Path(target).write_bytes(graph)
    inputs = [table] if isinstance(table, numpy.ndarray) else [table[[name]].to_numpy() for name in table.columns]
    return inputs, outputs, []


def part(content, key):
    """The estimator of a pickle: all of it, or what a dictionary or a list has under the key."""
    parts = dict(
        content if isinstance(content, dict) else enumerate(content if isinstance(content, (list, tuple)) else ())
    )
    parts = {str(name): value for name, value in parts.items()}
    model = content if key == "" else parts.get(key)
    if any(hasattr(model, name) for name in ("predict", "transform")):
        return model
    held = [name for name, value in parts.items() if hasattr(value, "predict") or hasattr(value, "transform")]
    if key and any(hasattr(content, name) for name in ("predict", "transform")):
        raise Refused("key", f"it is one {type(content).__name__}, and has nothing under `{key}`")
    if held:
        raise Refused("key", f"it holds a {type(content).__name__} with estimators under {', '.join(held)}")
    raise Refused("load", f"it holds a {type(content).__name__} without an estimator that predicts or transforms")


def loaded(source):
    if source.endswith(".skops"):
        from skops.io import get_untrusted_types, load

        return load(source, trusted=get_untrusted_types(file=source))
    import joblib

    return joblib.load(source)


def table_of(rows):
    """The sample as an array, or as a table if its columns have names; numbers rounded to the precision of requests."""
    import numpy

    if isinstance(rows, dict) and len(rows) == 1:
        (inner,) = rows.values()
        if isinstance(inner, list) and inner and isinstance(inner[0], (list, dict)):
            rows = inner  # a request to a server, as {"instances": [[1, 2]]}
    if isinstance(rows, dict) or (isinstance(rows, list) and rows and isinstance(rows[0], dict)):
        import pandas

        table = pandas.DataFrame(rows)
        numbers = [name for name in table.columns if table[name].dtype.kind == "f"]
        return table.astype({name: "float32" for name in numbers}).astype({name: "float64" for name in numbers})
    try:
        array = numpy.array(rows)
    except ValueError:
        array = numpy.array(None)
    if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "fiubU":
        raise Refused(
            "sample", "the sample is neither a list of rows, nor a list of objects with a value for each column"
        )
    if array.dtype.kind == "U":
        return array.astype(object).reshape(len(array), -1) if array.ndim == 2 else array.astype(object)
    return array.astype(numpy.float32).astype(numpy.float64)


def sklearn_outputs(model, table):
    import numpy

    names = [name for name in ("predict", "predict_proba") if hasattr(model, name)] or ["transform"]
    found = {}
    for name in names:
        values = attempt("sample", f"`{name}` of the model refuses the sample", lambda: getattr(model, name)(table))
        found[name] = numpy.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if hasattr(model, "classes_") and "predict" in found and found["predict"].dtype.kind == "f":
        found["predict"] = found["predict"].astype(numpy.int64)  # a classifier takes whole numbers only as classes
    return found


def onnx_of(model, table):
    import numpy
    from onnx.helper import make_attribute
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType

    has_probabilities = hasattr(model, "predict_proba")
    given = {"options": {id(model): {"zipmap": False}} if has_probabilities else None, "target_opset": OPSETS}
    if not isinstance(table, numpy.ndarray):
        first = table[:1].astype({name: "float32" for name in table.columns if table[name].dtype.kind == "f"})
        graph = to_onnx(model, first, **given)
    elif table.ndim == 1:  # texts
        graph = to_onnx(model, initial_types=[("X", StringTensorType([None]))], **given)
    else:
        graph = to_onnx(model, table[:1].astype(numpy.float32) if table.dtype.kind == "f" else table[:1], **given)
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer" and not any(each.name == "locale" for each in node.attribute):
            node.attribute.append(make_attribute("locale", "C.UTF-8"))  # the default, en_US.UTF-8, is in no slim image
    return graph.SerializeToString()


def write_keras(source, target, rows):
    import numpy

    legacy = is_keras_2(source)
    if legacy:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported
        import tf_keras as keras
    else:
        import keras
    model = attempt("load", "the model cannot be loaded", lambda: keras.models.load_model(source, compile=False))
    shapes = getattr(model, "inputs", None)
    if not shapes:
        raise Refused("load", "the model does not say what its inputs are")
    names = list(model.input_names) if legacy else [each.name for each in shapes]
    given = named_inputs(rows, names)
    inputs = [
        attempt(
            "sample",
            "the model refuses the sample",
            lambda: numpy.array(given[name], dtype=getattr(each.dtype, "name", each.dtype)),
        )
        for name, each in zip(names, shapes)
    ]
    called = inputs[0] if len(inputs) == 1 else inputs
    found = attempt("sample", "the model refuses the sample", lambda: flat(model(called, training=False)))
    titles = getattr(model, "output_names", None) or [f"output {number}" for number in range(len(found))]
    write_onnx = legacy_onnx if legacy else keras_onnx
    attempt("convert", "the model cannot be converted to ONNX", lambda: write_onnx(model, names, target))
    return inputs, {title: numpy.asarray(each) for title, each in zip(titles, found)}, []


def is_keras_2(source):
    if source.endswith(".keras"):
        with zipfile.ZipFile(source) as archive:
            text = json.loads(archive.read("metadata.json")).get("keras_version", "")
    else:
        import h5py

        with h5py.File(source, "r") as file:
            text = file.attrs.get("keras_version", "")
    return str(text.decode() if isinstance(text, bytes) else text).startswith(("1.", "2."))


def named_inputs(rows, names):
    """The sample by the names of the inputs; a model with one input takes it without a name, or with any."""
    if not isinstance(rows, dict):
        rows = {names[0]: rows}
    elif len(names) == 1 and len(rows) == 1:
        rows = {names[0]: next(iter(rows.values()))}
    if set(names) != set(rows):
        raise Refused(
            "sample", f"the sample has the inputs {', '.join(map(str, rows))}, and the model {', '.join(names)}"
        )
    return rows


def flat(found):
    """The arrays of a model's answer, in the order of its outputs."""
    if isinstance(found, dict):
        found = [found[name] for name in sorted(found)]
    return [each.numpy() for each in (found if isinstance(found, (list, tuple)) else [found])]


def keras_onnx(model, _names, target):
    model.export(target, format="onnx", verbose=False)


def legacy_onnx(model, names, target):
    import tensorflow
    import tf2onnx

    signature = [tensorflow.TensorSpec(each.shape, each.dtype, name=name) for name, each in zip(names, model.inputs)]
    tf2onnx.convert.from_keras(model, input_signature=signature, output_path=target, opset=OPSETS[""])


def compare(target, sample, work):
    import numpy

    report = json.loads(Path(work, "written.json").read_text())
    if "error" in report:
        return report
    with numpy.load(f"{work}/arrays.npz") as arrays:
        stored = dict(arrays)
    expected = [stored[f"out{number}"] for number in range(len(report["outputs"]))]
    if target.endswith(".skops"):
        rows = json.loads(Path(sample).read_text(encoding="utf-8"))
        model = attempt("differs", "the model cannot be loaded after the conversion", lambda: loaded(target))
        found, more = list(sklearn_outputs(model, table_of(rows)).values()), []
        tolerance = (0.0, 0.0)
    else:
        inputs = [stored[f"in{number}"] for number in range(len(stored) - len(expected))]
        found, more = attempt(
            "differs", "the model does not run after the conversion", lambda: run_onnx(target, inputs, len(expected))
        )
        tolerance = (RELATIVE, ABSOLUTE)
    if len(found) != len(expected):
        raise Refused("differs", f"the converted model has {len(found)} outputs instead of {len(expected)}")
    largest = [check(name, *pair, *tolerance) for name, *pair in zip(report["outputs"], expected, found)]
    known = {name: installed(name) for name in LIBRARIES}
    report.update(
        rows=len(expected[0]),
        uncompared=more,
        largest=max(largest),
        tolerance=tolerance,
        versions={name: number for name, number in known.items() if number},
    )
    return report


def run_onnx(target, inputs, count):
    """The first outputs of the model, and the names of the others."""
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    named = session.get_inputs()
    if len(named) != len(inputs):
        raise Refused("differs", f"the converted model has {len(named)} inputs instead of {len(inputs)}")
    types = {"tensor(string)": object, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32, "tensor(bool)": bool}
    types.update({"tensor(double)": numpy.float64, "tensor(float16)": numpy.float16})
    feed = {each.name: array.astype(types.get(each.type, numpy.float32)) for each, array in zip(named, inputs)}
    found = session.run(None, feed)
    return found[:count], [each.name for each in session.get_outputs()[count:]]


def check(name, before, after, relative, absolute):
    """The largest difference of two outputs. Whole numbers are classes or counts: no tolerance is for them.

    Raises:
        Refused: it is above the tolerance.
    """
    import numpy

    after = storable(numpy.asarray(after))
    if before.size != after.size or len(before) != len(after):
        raise Refused(
            "differs",
            f"`{name}` has the shape {list(after.shape)} after the conversion, and {list(before.shape)} before",
        )
    after = after.reshape(before.shape)
    if "U" in (before.dtype.kind, after.dtype.kind):
        wrong, difference = before.astype(str) != after.astype(str), numpy.zeros(before.shape)
    else:
        one, two = before.astype(float), after.astype(float)
        same = (before == after) | (numpy.isnan(one) & numpy.isnan(two))
        with numpy.errstate(invalid="ignore"):
            difference = numpy.where(same, 0.0, abs(one - two))
            near = numpy.isfinite(difference) & (difference <= absolute + relative * abs(one))
        wrong = ~same & ~(near & (before.dtype.kind not in "iub"))
    if wrong.any():
        rows = int(wrong.reshape(len(wrong), -1).any(axis=1).sum())
        first = tuple(int(place) for place in numpy.argwhere(wrong)[0])
        raise Refused(
            "differs",
            f"`{name}` differs in {rows} of {len(before)} rows after the conversion: {after[first]} instead of "
            f"{before[first]} in row {first[0]}",
        )
    return float(difference.max()) if difference.size else 0.0


def storable(array):
    """Objects as text: an array of objects would be a pickle."""
    return array.astype(str) if array.dtype.kind in "OSU" else array


def attempt(stage, what, action):
    """What the action returns.

    Raises:
        Refused: it raised anything.
    """
    try:
        return action()
    except Refused:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused(stage, f"{what}: {type(error).__name__}: {reason}") from error


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main(action, *arguments):
    warnings.simplefilter("ignore")
    *given, file = arguments
    try:
        report = (write if action == "write" else compare)(*given)
    except Refused as error:
        report = {"error": str(error), "stage": error.stage}
    except Exception as error:  # of a library
        stage = "convert" if action == "write" else "differs"
        report = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "stage": stage}
    Path(file).write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
