"""What is installed in an image, from its layers in order; whatever a later layer removes is not there."""

import io
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.build.layers import InstalledFile, InstalledFiles, compat_drivers, lock_of, read_installed_file
from mlship.lock.record import MeasuredCode
from mlship.size.layers import Budget, LayerTree, read_layer, stacked_files
from mlship.size.stream import BrokenTarError
from tests.helpers.device_code import fatbin, library
from tests.helpers.layouts import record, tar

SITE = "opt/venv/lib/python3.11/site-packages"
SO = library(fatbin([(2, 80, 0x11, False, b"x")]), more=600)
NAMES = st.sampled_from(["a", "b", "c"])
LAYERS = st.lists(st.dictionaries(NAMES, st.sampled_from(["1.0", "2.0", None]), max_size=3), max_size=5)


def layer(data: bytes) -> LayerTree[InstalledFile | None]:
    return read_layer(io.BytesIO(data), read_installed_file, Budget())


def stacked(*trees: Mapping[str, bytes]) -> InstalledFiles:
    return {path: file for path, (_, file) in stacked_files([layer(tar(tree)) for tree in trees]).items()}


@given(LAYERS)
def test_the_last_layer_wins(layers: list[dict[str, str | None]]) -> None:
    """Each layer installs a version of some packages and removes others; None removes whatever is there."""
    trees, there = list[dict[str, bytes]](), dict[str, str]()
    for layer in layers:
        tree = dict[str, bytes]()
        for name, version in layer.items():
            if name in there and version != there[name]:
                tree[f"{SITE}/.wh.{name}-{there.pop(name)}.dist-info"] = b""
            if version:
                tree |= record(SITE, name, version, {f"{name}.py": b""})
                there[name] = version
        trees.append(tree)
    assert {pin.name: pin.version for pin in lock_of(stacked(*trees)).pins} == there


def test_device_code_belongs_to_the_package_whose_record_names_it() -> None:
    files = stacked(
        record(SITE, "Ours_x", "1.0", {"ours/a.so": SO}), record(SITE, "other", "2.0", {"o.so": b"x" * 900})
    )
    assert [(pin.name, pin.code) for pin in lock_of(files).pins] == [("other", ()), ("ours-x", (MeasuredCode("8.0"),))]


@pytest.mark.parametrize("path", ["app/libours.so", "usr/lib/python3/dist-packages/torch/lib/a.so.1", "opt/trt/b.so"])
def test_device_code_of_no_package_is_named(path: str) -> None:
    files = stacked(record(SITE, "ours", "1.0", {"ours/a.so": SO}) | {path: SO, "usr/lib/libplain.so": b"x" * 900})
    assert lock_of(files).stray == (path,)
    assert lock_of(stacked({path: SO}, {path: b"x" * 900})).stray == ()


def test_cuda_of_the_system_counts_as_its_wheels() -> None:
    folder = "usr/local/cuda-12.4/targets/x86_64-linux/lib"
    names = ("libcudart.so.12.4.127", "libcublas.so.12.4.5.8", "libcublas.so.12", "libcudnn.so.9.1.0", "libc.so.6")
    files = stacked({f"{folder}/{name}": b"x" for name in names} | {"usr/local/cuda/compat/libcuda.so.550.54.15": b"x"})
    assert [f"{pin.name}=={pin.version}" for pin in lock_of(files).pins] == [
        "nvidia-cublas-cu12==12.4.5.8", "nvidia-cuda-runtime-cu12==12.4.127", "nvidia-cudnn-cu12==9.1.0",
    ]  # fmt: skip
    assert compat_drivers(files) == ("550.54.15",)


def test_packages_of_conda_are_not_judged() -> None:
    lock = lock_of(stacked({"opt/conda/conda-meta/pytorch-2.1.0-py3.10_cuda11.8_cudnn8.7.0_0.json": b"{}"}))
    assert lock.foreign == ("pytorch 2.1.0",)


@given(st.binary(max_size=2000))
def test_no_bytes_make_another_error(data: bytes) -> None:
    with pytest.raises(BrokenTarError):
        layer(data + b"x")
