"""Each kind of waste is found once with its size, and needed files are not waste."""

import pytest

from mlship.size.account import account
from mlship.size.content import BIG, File
from mlship.size.layout import SavedLayer
from mlship.size.report import Waste
from tests.helpers.size_reports import image_with, layer_with

SITE = "opt/venv/lib/python3.11/site-packages"
OTHER = "usr/lib/python3/dist-packages"
MB = BIG


def wasted(files: dict[str, File], records: dict[str, tuple[str, ...]] | None = None) -> dict[str, Waste]:
    lists = {path: File(1, listed=listed) for path, listed in (records or {}).items()}
    found = account(image_with(layer_with({**files, **lists})), "x", "y").waste
    assert len({waste.id for waste in found}) == len(found)
    return {waste.id: waste for waste in found}


def installed(site: str, name: str, *paths: str) -> dict[str, tuple[str, ...]]:
    return {f"{site}/{name}-1.0.dist-info/RECORD": tuple(f"{site}/{path}" for path in paths)}


def test_cuda_twice() -> None:
    wheel, image = f"{SITE}/nvidia/cublas/lib/libcublas.so.12", "usr/local/cuda-12.6/lib64/libcublas.so.12.6.4.1"
    found = wasted(
        {wheel: File(9 * MB), image: File(8 * MB)},
        installed(SITE, "nvidia-cublas-cu12", "nvidia/cublas/lib/libcublas.so.12"),
    )["library-twice"]
    assert (found.bytes, found.where) == (8 * MB, (f"/{image}",))
    assert found.what == "/usr/local/cuda-12.6 and nvidia-cublas-cu12 each have libcublas.so"
    assert "a base image without CUDA" in found.advice


def test_a_library_that_two_packages_bring_is_theirs() -> None:
    paths = ("numpy.libs/libgfortran-040039e1.so.5.0.0", "scipy.libs/libgfortran-0352e75f.so.5")
    records = {**installed(SITE, "numpy", paths[0]), **installed(SITE, "scipy", paths[1])}
    found = wasted({f"{SITE}/{path}": File(2 * MB) for path in paths}, records)["library-twice"]
    assert found.bytes == 2 * MB
    assert "each package bundles its own copy" in found.advice


def test_libraries_of_the_same_folder_small_ones_and_extension_modules_are_none() -> None:
    assert not wasted(
        {
            "usr/lib/libx.so.1": File(2 * MB),
            "usr/lib/libx.so.2": File(2 * MB),
            "a/liby.so": File(5000),
            "b/liby.so": File(5000),
            f"{SITE}/a/core.so": File(2 * MB),
            f"{SITE}/b/core.so": File(2 * MB),
        }
    )


def test_the_same_content_twice() -> None:
    same = {f"data/{name}": File(3 * MB, digest="x") for name in "abc"}
    found = wasted({**same, "data/d": File(3 * MB, digest="y")})["identical"]
    assert (found.bytes, found.where) == (6 * MB, ("/data/b", "/data/c"))
    assert found.what == "/data has more than one copy of files: a"
    assert "replace them with links" in found.advice


def test_copies_within_one_package_and_across_packages_are_one_waste_each() -> None:
    own = {f"{SITE}/triton/lib/libcupti.so{end}": File(2 * MB, digest="x") for end in ("", ".13", ".2026")}
    shared = {f"{SITE}/{name}.libs/libgfortran.so.5": File(3 * MB, digest="y") for name in ("numpy", "scipy")}
    records = {
        **installed(SITE, "triton", *(path.removeprefix(f"{SITE}/") for path in own)),
        **installed(SITE, "numpy", "numpy.libs/libgfortran.so.5"),
        **installed(SITE, "scipy", "scipy.libs/libgfortran.so.5"),
    }
    lists = {path: File(1, listed=listed) for path, listed in records.items()}
    found = account(image_with(layer_with({**own, **shared, **lists})), "x", "y").waste
    assert [(waste.bytes, waste.what) for waste in found] == [
        (4 * MB, "triton has more than one copy of files: libcupti.so"),
        (3 * MB, "numpy and scipy have the same content: libgfortran.so.5"),
    ]
    assert "wheels cannot contain links" in found[0].advice
    assert "each package bundles its own copy" in found[1].advice


def test_a_distribution_in_two_places() -> None:
    files = {f"{SITE}/yaml/a.py": File(3 * MB), f"{OTHER}/yaml/a.py": File(2 * MB)}
    records = {**installed(SITE, "PyYAML", "yaml/a.py"), **installed(OTHER, "pyyaml", "yaml/a.py")}
    found = wasted(files, records)["installed-twice"]
    assert found.bytes == 2 * MB + 1  # and its RECORD
    assert found.what == f"pyyaml is installed in 2 places: /{SITE}, /{OTHER}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tests", f"{SITE}/numpy/tests/test_x.py"),
        ("tests", f"{SITE}/joblib/test/data.bin"),
        ("headers", f"{SITE}/torch/include/a.cuh"),
        ("headers", "usr/include/stdio.h"),
        ("static-archives", f"{SITE}/torch/lib/libx.a"),
        ("cache", "root/.cache/pip/http/x"),
        ("cache", "var/lib/apt/lists/x"),
        ("bytecode-never-read", f"{SITE}/a/__pycache__/gone.cpython-311.pyc"),
        ("bytecode-never-read", f"{SITE}/a/__pycache__/here.cpython-310.pyc"),
    ],
)
def test_leftovers(name: str, path: str) -> None:
    found = wasted({path: File(MB), f"{SITE}/a/here.py": File(1)})
    assert [(waste.id, waste.bytes, waste.where) for waste in found.values()] == [(name, MB, (f"/{path}",))]
    assert found[name].advice


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/a/__pycache__/here.cpython-311.pyc",
        f"{SITE}/numpy/testing/x.py",
        "app/tests/x.py",
        "app/x.h",
        "root/.cache/huggingface/hub/models--a--b/blobs/0123",
        "app/pytest/x.py",
        f"{SITE}/torch/lib/libx.so",
    ],
)
def test_what_is_used_is_no_waste(path: str) -> None:
    assert not wasted({path: File(MB), f"{SITE}/a/here.py": File(1)})


def test_little_is_not_worth_a_line() -> None:
    assert not wasted({f"{SITE}/numpy/tests/test_x.py": File(1000)})


def test_hidden_bytes_and_whose_they_are() -> None:
    def layer(files: dict[str, File]) -> SavedLayer[File]:
        return layer_with(files, "RUN mlship:/tmp:/usr/sbin/nologin")

    layers = (layer({"a": File(MB), "b": File(1)}), layer({"a": File(MB)}))
    found = account(image_with(*layers), "x", "y").waste
    assert [(waste.id, waste.bytes, waste.what) for waste in found] == [
        ("hidden", MB, "1 file of layer 1 that later layers replace or remove")
    ]
