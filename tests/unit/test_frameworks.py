"""frameworks.toml: every row is well formed, and all who ask about a package get the same answer."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlship.frameworks import (
    framework_table,
    gpu_requirement_for,
    gpu_requirements,
    is_gpu_only,
    runtime_group,
    silent_modules,
    telemetry_of,
)
from mlship.lock.groups import group_of
from mlship.project.config import PYTHONS
from mlship.project.formats import CODE, MODELS, ModelFormat
from mlship.size.groups import Sorter
from mlship.size.owners import Distribution
from mlship.smoke.inside import gpu
from tests.helpers.size_reports import image_with, layer_with

TABLE = framework_table()
PATTERNS = sorted(
    {
        pattern
        for patterns in (
            TABLE.cuda.layer,
            TABLE.gpu_only.packages,
            *(row.layer for row in TABLE.frameworks),
            *(row.gpu_only for row in TABLE.frameworks),
        )
        for pattern in patterns
    }
)
DISTRIBUTIONS = sorted(
    {
        *(pattern.replace("*", "x1") for pattern in PATTERNS),
        *(name for row in TABLE.frameworks for name in (*row.distributions, *row.required_by, *row.rivals)),
    }
)
NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
    st.builds(str.__add__, st.sampled_from(DISTRIBUTIONS), st.from_regex(r"(-?[a-z0-9]{0,6})", fullmatch=True)),
)


def size_group(name: str) -> str:
    """The group that `mlship size` gives a distribution of an image that mlship did not build."""
    return Sorter(image_with(layer_with({})), None).package(Distribution(name, "1", "s"), 0)


@given(NAMES)
def test_build_and_size_agree_on_every_name(name: str) -> None:
    built = group_of(name, None)
    assert size_group(name) == ("packages" if built == "light" else built)


def test_build_and_size_agree_on_every_distribution_of_the_table() -> None:
    for name in DISTRIBUTIONS:
        built = group_of(name, None)
        assert size_group(name) == ("packages" if built == "light" else built)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("torchvision", "framework"),
        ("paddlepaddle-gpu", "framework"),
        ("cupy-cuda12x", "framework"),
        ("tf-nightly", "framework"),
        ("jax-cuda12-plugin", "framework"),
        ("tensorrt-cu12", "cuda"),
        ("nvidia", "cuda"),
        ("tritonclient", None),
        ("torchmetrics", None),
    ],
)
def test_what_had_drifted(name: str, group: str | None) -> None:
    assert runtime_group(name) == group


def test_names_are_normalised_and_listed_once() -> None:
    for name in (*PATTERNS, *DISTRIBUTIONS):
        plain = name.replace("*", "x")
        assert canonicalize_name(plain) == plain
    names = [row.name for row in TABLE.frameworks]
    assert len(names) == len(set(names))
    layers = [pattern for row in TABLE.frameworks for pattern in row.layer]
    assert len(layers) == len(set(layers))


def test_formats_are_known_and_each_refusal_says_what_to_do() -> None:
    assert set(TABLE.formats) <= set(get_args(ModelFormat))
    assert {name for row in TABLE.frameworks for name in row.files} <= MODELS
    refused = {name for name, text in TABLE.formats.items() if text.problem}
    assert refused == {*CODE, "empty", "lfs-pointer", "unknown"}
    assert all(bool(text.problem) == bool(text.fix) for text in TABLE.formats.values())


def test_wheels_are_known_for_each_python() -> None:
    for row in TABLE.frameworks:
        assert not row.wheels or set(row.wheels) == set(PYTHONS), row.name


def test_gpu_requirements_are_requirements() -> None:
    for row in TABLE.frameworks:
        for text in row.gpu_requirements:
            assert Requirement(text).extras, f"{text} has no extra that brings CUDA's libraries"
        assert row.gpu_requirements or not row.cpu_only
    assert gpu_requirement_for("tensorflow-cpu") == "tensorflow[and-cuda]"
    assert gpu_requirement_for("torch") is None


def test_no_module_both_reports_its_gpus_and_cannot() -> None:
    assert set(gpu.READERS).isdisjoint(silent_modules())


def test_the_build_names_what_brings_cuda() -> None:
    assert gpu_requirements()["jaxlib"] == "jax[cuda12] or jax[cuda13]"
    assert set(gpu_requirements().values()) == {
        " or ".join(row.gpu_requirements) for row in TABLE.frameworks if row.gpu_requirements
    }, "a row with `gpu_requirements` needs `folders`"


@pytest.mark.parametrize(
    ("name", "expected"), [("cupy-cuda12x", True), ("jax-cuda13-plugin", True), ("vllm", True), ("torch", False)]
)
def test_gpu_only(name: str, expected: bool) -> None:
    assert is_gpu_only(name) is expected


def test_telemetry() -> None:
    assert [switch.variable for switch in telemetry_of(["numpy", "onnxruntime-gpu"])] == ["ORT_DISABLE_TELEMETRY"]
    assert list(telemetry_of(["onnx", "torch"])) == []
