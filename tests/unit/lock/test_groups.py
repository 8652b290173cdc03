"""Which pin lies in which layer: every pin in one, stable whatever else is locked, never too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.lock.groups import (
    GROUPS,
    MEDIUM_BUCKETS,
    MOST_OWN_LAYERS,
    SMALL_BUCKETS,
    bucket_of,
    group_of,
    package_layers,
    requirements_of,
)
from mlship.lock.pins import Pin, parse_lock

HASH = f"sha256:{'a' * 64}"
NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,12}[a-z0-9]", fullmatch=True), unique=True, max_size=150)


def pins(*names: str) -> tuple[Pin, ...]:
    return tuple(Pin(name, "1.0", (HASH,)) for name in names)


@pytest.mark.parametrize(
    ("name", "size", "group"),
    [
        ("nvidia-cublas-cu12", 600_000_000, "cuda"),
        ("nvidia-cuda-runtime", None, "cuda"),
        ("cuda-toolkit", 1_000, "cuda"),
        ("triton", 150_000_000, "cuda"),
        ("torch", None, "framework"),
        ("onnxruntime-gpu", None, "framework"),
        ("jax-cuda12-plugin", None, "framework"),
        ("cupy-cuda12x", None, "framework"),
        ("jaxlib", 80_000_000, "framework"),
        ("scipy", 35_000_000, "heavy"),
        ("torchmetrics", 900_000, "light"),
        ("tritonclient", 100_000, "light"),
        ("uvicorn", 87_000, "light"),
        ("package-without-known-size", None, "light"),
    ],
)
def test_groups(name: str, size: int | None, group: str) -> None:
    assert group_of(name, size) == group


def test_what_is_large_has_a_layer_of_its_own() -> None:
    sizes = {"scipy": 35_000_000, "pydantic-core": 4_900_000, "h11": 30_000, "idna": 70_000}
    found = package_layers(pins("h11", "idna", "pydantic-core", "scipy", "torch"), sizes)
    assert [(layer.group, layer.name) for layer in found if not layer.name.startswith("bucket")] == [
        ("framework", "torch"),
        ("heavy", "scipy"),
    ]


def test_what_is_compiled_is_installed_apart() -> None:
    found = package_layers(pins("flash-attn", "torch"), {"flash-attn": 8_000_000}, ("flash-attn",))
    assert [(layer.group, layer.packages) for layer in found] == [
        ("framework", ("torch",)),
        ("compiled", ("flash-attn",)),
    ]


@given(NAMES, st.integers(0, 10**9))
def test_every_pin_lies_in_one_layer_and_layers_are_few(names: list[str], size: int) -> None:
    found = package_layers(pins(*names), dict.fromkeys(names, size))
    packages = [name for layer in found for name in layer.packages]
    assert sorted(packages) == sorted(names)
    assert len(found) <= MOST_OWN_LAYERS + (SMALL_BUCKETS + MEDIUM_BUCKETS) * len(GROUPS) <= 110


@given(NAMES, st.data())
def test_another_package_moves_none(names: list[str], data: st.DataObject) -> None:
    """Short of so many that the largest have to share."""
    kept = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    sizes = {name: (hash_of(name) % 10) * 100_000 for name in names}

    def where(some: list[str]) -> dict[str, tuple[str, str]]:
        return {
            name: (layer.group, layer.name) for layer in package_layers(pins(*some), sizes) for name in layer.packages
        }

    if len(names) < MOST_OWN_LAYERS:
        whole = where(names)
        assert where(kept) == {name: whole[name] for name in kept}


def hash_of(name: str) -> int:
    return sum(map(ord, name))


def test_buckets_do_not_move_between_versions_of_mlship() -> None:
    """A renamed layer is pushed again by every user."""
    names = ("uvicorn", "fastapi", "anyio", "click")
    assert [bucket_of(name, None) for name in names] == [bucket_of(name, 99_999) for name in names] == [0, 1, 1, 1]
    assert [bucket_of(name, 100_000) for name in names] == [3, 3, 3, 4]


def test_what_changes_often_and_is_small_is_on_top() -> None:
    sizes = {"anyio": 99_000, "certifi": 99_000, "fastapi": 500_000, "zstandard": 6_000_000, "scipy": 35_000_000}
    found = package_layers(pins(*sizes), sizes)
    assert found[0].name == "scipy"
    assert found[1].name == "zstandard"
    assert [max(sizes[name] for name in layer.packages) for layer in found] == sorted(sizes.values(), reverse=True)


def test_a_web_service_has_about_a_dozen_package_layers() -> None:
    """Each layer costs time at every build. The sizes are those of a usual service's wheels."""
    large = {"onnxruntime": 27_773_237, "scipy": 35_112_380, "numpy": 16_918_164, "pandas": 12_356_904}
    medium = {"scikit-learn": 9_315_422, "pydantic-core": 2_257_712, "narwhals": 501_718, "pydantic": 494_865}
    small = {f"small-{number}": 5_000 * number for number in range(1, 20)}
    found = package_layers(pins(*large, *medium, *small), large | medium | small)
    assert len(found) <= 11
    assert sum(layer.is_shared for layer in found) == SMALL_BUCKETS + MEDIUM_BUCKETS


def test_a_part_of_a_lock_is_a_lock() -> None:
    text = (
        f"a==1.0 --hash={HASH} --hash=sha256:{'b' * 64}\n"
        f'b==2.0 ; python_version < "3.12" --hash={HASH}\n'
        f"c @ https://example.com/c-3.0-py3-none-any.whl --hash={HASH}\n"
    )
    whole = parse_lock(text, "whole")
    assert parse_lock(requirements_of(whole, ["a", "b", "c"]), "part") == whole
    assert [pin.name for pin in parse_lock(requirements_of(whole, ["c", "a"]), "part")] == ["a", "c"]
