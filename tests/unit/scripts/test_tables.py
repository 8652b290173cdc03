"""What `make tables` proposes: rows that mlship reads, and no more than the metadata says."""

import json

import pytest
from _tables import Row, image_rows, release_row, toolkit_row, unknown_branches, with_rows

from mlship.cuda.tables.lookup import tables
from mlship.cuda.tables.read import read_table
from mlship.cuda.tables.rows import DriversFile, ImagesFile, PackagesFile, Release
from mlship.cuda.versions import Cuda

DAY = "2027-01-31"


def last(package: str) -> Release:
    return tables().packages.by_package[package][-1]


def read_back(row: Row, package: str) -> Release:
    text = with_rows([row], DAY)["packages.toml"]
    return read_table(PackagesFile, "packages.toml", text).by_package[package][-1]


def test_a_newer_torch_is_proposed_without_its_gpus() -> None:
    row = release_row(last("torch"), "2.99.1", Cuda(13, 4), "9.30.1.2", None)
    assert row
    found = read_back(row, "torch")
    variant = found.variant()
    assert variant
    assert (found.versions, variant.name, variant.cuda, variant.cudnn) == (
        ">=2.99,<2.100",
        "cu134",
        Cuda(13, 4),
        "9.30",
    )
    assert (variant.x86_64, variant.aarch64, variant.ptx_x86_64) == (None, None, None)
    assert "measure the GPUs" in row.human
    assert found.source == "proposed by `make tables` from PyPI's torch 2.99.1, 2027-01-31"


def test_a_release_of_the_last_minor_takes_up_where_the_row_ends() -> None:
    end = last("torch").band[1]
    row = release_row(last("torch"), str(end), Cuda(13, 4), "", None)
    assert row
    assert read_back(row, "torch").band[0] == end


def test_a_package_that_is_built_for_a_torch_keeps_that_relation() -> None:
    row = release_row(last("vllm"), "9.1.0", None, "", "2.99.0")
    assert row is None or read_back(row, "vllm").torch == "2.99.0"
    assert release_row(last("vllm"), "9.1.0", Cuda(13, 0), "", None) is None


def test_another_cuda_major_is_for_a_person() -> None:
    assert release_row(last("onnxruntime-gpu"), "9.0.0", Cuda(14, 0), "9.0", None) is None
    assert release_row(last("torch"), "9.0.0", None, "", None) is None


@pytest.mark.parametrize(("release", "name"), [("14.7.0", "14.7"), ("14.7.2", "14.7 U2")])
def test_a_newer_toolkit_is_proposed_without_a_driver(release: str, name: str) -> None:
    text = with_rows([toolkit_row(release)], DAY)["drivers.toml"]
    row = read_table(DriversFile, "drivers.toml", text).toolkits[-1]
    assert (row.version, row.release, row.driver) == (name, release, None)


def test_newer_images_are_proposed_once_for_all_ubuntus() -> None:
    tags = [
        "99.1.0-cudnn-runtime-ubuntu24.04",
        "99.1.0-cudnn-runtime-ubuntu22.04",
        "99.1.0-cudnn-runtime-rockylinux9",
        "12.6.3-cudnn-runtime-ubuntu22.04",
        "latest",
    ]
    rows = list(image_rows(json.dumps({"count": 5, "results": [{"name": tag, "id": 1} for tag in tags]})))
    row = read_table(ImagesFile, "images.toml", with_rows(rows, DAY)["images.toml"]).images[-1]
    assert (row.version, row.distros, row.cudnn) == ("99.1.0", ("ubuntu22.04", "ubuntu24.04"), "9")


def test_unknown_driver_branches_are_for_a_person() -> None:
    listed = {"580": {"type": "lts branch"}, "999": {"driver_info": []}, "418": {}}
    assert list(unknown_branches(json.dumps(listed))) == [
        "driver branch R999: read the CUDA that it reports in NVIDIA's release notes"
    ]


def test_rows_of_all_files_fit_together() -> None:
    first, second = (release_row(last(name), "99.0.0", Cuda(13, 9), "9.1", None) for name in ("torch", "jax"))
    rows = [row for row in (toolkit_row("14.7.0"), first, second) if row]
    assert {"drivers.toml", "packages.toml"} == with_rows(rows, DAY).keys()


def test_no_proposed_row_is_merged_before_its_source_is_read() -> None:
    """A proposal lacks what no index says. Read it, and name the source that you read."""
    files = tables()
    sources = [row.source for row in (*files.packages.releases, *files.images, *files.drivers.toolkits)]
    sources += [variant.source for release in files.packages.releases for variant in release.variants]
    assert not [source for source in sources if source.startswith("proposed by")]
