"""The facts about CUDA: a row that cannot be trusted is refused, and lookups never guess."""

import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from mlship.cuda.tables.lookup import (
    CudaOffer,
    NotRecorded,
    architecture_of,
    compat_of,
    floor_of,
    gpu_class,
    is_far_newer,
    library_pin,
    nvidia_image,
    offer_of,
    release_of,
    support_of,
    tables,
    toolkit_of,
    wheel_index,
)
from mlship.cuda.tables.read import TableFile, read_table
from mlship.cuda.tables.rows import (
    FLAVOURS,
    DriversFile,
    Forward,
    GpuClass,
    GpusFile,
    ImagesFile,
    LibrariesFile,
    PackagesFile,
    Release,
)
from mlship.cuda.versions import Capability, Cuda, Driver, driver_in
from mlship.resources import read_package_file
from tests.helpers.patience import limit

FILES: dict[str, type[TableFile]] = {
    "drivers.toml": DriversFile,
    "gpus.toml": GpusFile,
    "images.toml": ImagesFile,
    "libraries.toml": LibrariesFile,
    "packages.toml": PackagesFile,
}


def read_driver(text: str) -> Driver:
    driver = Driver.parse(text)
    assert driver is not None
    return driver


def release(package: str, version: str) -> Release:
    found = release_of(package, version)
    assert isinstance(found, Release), found
    return found


def unknown(package: str, version: str) -> str:
    found = release_of(package, version)
    assert isinstance(found, NotRecorded), found
    return found.reason


# A file, a text that it contains, what replaces the text, and the error; {row} is the number of the row that changes.
BAD_ROWS = [
    (
        "drivers.toml",
        'cuda = "13.4", source = "compat"',
        'cuda = "13.4"',
        "branches row {row} (615), source: Field required",
    ),
    (
        "drivers.toml",
        'source = "minor"',
        'source = "rumour"',
        "floors row 1 (13), source: 'rumour' is not listed under",
    ),
    (
        "drivers.toml",
        "branch = 615,",
        "branch = 615, brnch = 1,",
        "branches row {row} (615), brnch: Extra inputs are not",
    ),
    ("drivers.toml", "branch = 615,", 'branch = "615",', "row {row} (615), branch: Input should be a valid integer"),
    ("drivers.toml", "branch = 615,", "branch = true,", "row {row} (True), branch: Input should be a valid integer"),
    ("drivers.toml", "branch = 610,", "branch = 615,", "branches: row {row}: 615 is listed twice"),
    ("drivers.toml", 'cuda = "13.4"', 'cuda = "13"', "cuda: '13' is not a CUDA version"),
    ("drivers.toml", 'cuda = "13.4"', "cuda = 13.4", "branches row {row} (615), cuda: 13.4 is not text"),
    ("drivers.toml", '"610.43.02"', '"610.43.02-grid"', "driver: '610.43.02-grid' is not a driver version"),
    ("drivers.toml", '"13.3 U1"', '"13.3 Ux"', "toolkits row {row} (13.3 Ux), version: String should match pattern"),
    ("drivers.toml", 'version = "13.3"', 'version = "13.3 U1"', "toolkits: row {row}: 13.3.1 is listed twice"),
    (
        "drivers.toml",
        "not_needed = [615]",
        "not_needed = [610]",
        "compat row {row} (13-4): each host branch belongs in one of",
    ),
    (
        "drivers.toml",
        "not_needed = [615]",
        'not_needed = ["615"]',
        "not_needed row 1 (615): Input should be a valid int",
    ),
    (
        "drivers.toml",
        'package = "13-4"',
        'package = "latest"',
        "compat row {row} (latest), package: String should match",
    ),
    ("drivers.toml", "\n[sources]\n", "\n[extra]\n[sources]\n", "extra: Extra inputs are not permitted"),
    ("drivers.toml", "branches = [", "branches = [[", "is not TOML"),
    ("drivers.toml", "branches = [", "branches = [ 1,", "branches row 1 (1): Input should be a valid dictionary"),
    ("gpus.toml", 'capabilities = ["8.0"]', 'capabilities = ["sm_80"]', "'sm_80' is not a compute capability"),
    ("gpus.toml", 'capabilities = ["8.6"]', 'capabilities = ["8.0"]', "architectures: row {row}: 8.0 is listed twice"),
    ("gpus.toml", '["5.0", "5.2", "5.3"]', '["5.2", "5.0", "5.3"]', "row {row} (Maxwell), capabilities: must ascend"),
    ("gpus.toml", 'tegra = ["5.3"]', 'tegra = ["6.2"]', "tegra lists a capability that the row does not have"),
    ("gpus.toml", 'first = "6.5", last = "12.9"', 'first = "12.9", last = "6.5"', "is newer than its last 6.5"),
    (
        "gpus.toml",
        'open_modules = "possible"',
        'open_modules = "maybe"',
        "open_modules: Input should be 'required', 'po",
    ),
    ("gpus.toml", 'kind = "jetson"', 'kind = "toy"', "kind: Input should be 'data-center', 'geforce'"),
    ("gpus.toml", r"\btesla\b", r"\btesla\b(", "pattern: Input should be a valid regular expression"),
    ("images.toml", '"12.6.3"', '"12.6"', "images row {row} (12.6), version: String should match pattern"),
    ("images.toml", '"12.0.0"', '"11.8.0"', "images: row {row}: 11.8.0 is listed twice"),
    (
        "images.toml",
        '"ubuntu20.04"',
        '"focal"',
        "row {row} (11.8.0), distros row 1 (focal): String should match pattern",
    ),
    (
        "images.toml",
        'flavours = ["runtime", "devel"]',
        'flavours = ["base"]',
        "flavours row 1 (base): Input should be 'r",
    ),
    ("images.toml", 'token = "cudnn8", ', "", "cudnn, token and the cudnn flavours belong together"),
    ("images.toml", "gone = true", 'gone = "yes"', "row {row} (12.0.0), gone: Input should be a valid boolean"),
    (
        "libraries.toml",
        'plain = "cuda", source = "meta"',
        'source = "meta"',
        "(cuda-toolkit): needs suffixed, plain or b",
    ),
    ("libraries.toml", 'plain = "major"', 'plain = "minor"', "plain: Input should be 'cuda', 'major' or 'none'"),
    ("libraries.toml", 'sonames = ["libcufile.so.0"]', "sonames = []", "sonames: Tuple should have at least 1 item"),
    ("libraries.toml", '"nvidia-cuda-nvrtc"', '"nvidia-cuda-runtime"', "row 3: nvidia-cuda-runtime is listed twice"),
    ("packages.toml", '">=2.13,<2.14"', '">=2.13,<2.15"', "releases: torch >=2.13,<2.15 and >=2.14,<2.15 overlap"),
    ("packages.toml", '">=2.14,<2.15"', '">=2.14"', "releases row {row} (torch), versions: '>=2.14' is not a band"),
    ("packages.toml", '">=2.14,<2.15"', '">=2.14,<=2.15"', "is not a band such as"),
    ("packages.toml", '">=2.14,<2.15"', '">=2.15,<2.14"', "contains no version"),
    ("packages.toml", '">=2.14,<2.15"', '"new,<2.15"', "is not a version specifier"),
    ("packages.toml", 'default = "cu130"', 'default = "cu131"', "its default 'cu131' is not one of its variants"),
    (
        "packages.toml",
        '{ name = "cu132", cuda = "13.2", x86',
        '{ name = "cu130", cuda = "13.2", x86',
        "row {row} (torch), variants: row 3: cu130 is listed",
    ),
    (
        "packages.toml",
        'source = "torch-now"',
        'sources = "torch-now"',
        "variants row 1 (cu126), source: Field required",
    ),
    ("packages.toml", 'follows = "torch"', "", "needs variants, follows or compiled"),
    ("packages.toml", "[[indexes]]", "[[indexes]]\n[[indexes]]", "indexes: Tuple should have at most 1 item"),
    ("packages.toml", 'address = "https', 'adress = "https', "address: Field required"),
]


def row_of(text: str, part: str) -> int:
    """The number of the row that first contains a text: a [[releases]] table, or one line of a list."""
    above = text[: text.index(part)]
    return above.count("\n[[releases]]\n") or above[above.rfind(" = [\n") :].count("\n  {")


@pytest.mark.parametrize(("name", "good", "bad", "message"), BAD_ROWS)
def test_a_row_that_cannot_be_trusted_is_refused(name: str, good: str, bad: str, message: str) -> None:
    text = read_package_file(f"data/cuda/{name}")
    assert good in text
    message = message.replace("{row}", str(row_of(text, good)))
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        read_table(FILES[name], name, text.replace(good, bad, 1))
    assert str(refusal.value).startswith(name)


def test_a_source_must_say_something() -> None:
    text = read_package_file("data/cuda/images.toml")
    with pytest.raises(ValueError, match=r"images.toml: sources, cog: String should match pattern"):
        read_table(ImagesFile, "images.toml", re.sub(r'(?m)^cog = ".*"', 'cog = " "', text))


@pytest.mark.parametrize("name", FILES)
def test_every_row_has_the_day_on_which_its_source_was_read(name: str) -> None:
    text = read_package_file(f"data/cuda/{name}")
    rows, _, listed = text.partition("\n[sources]\n")
    undated = re.sub(r"20\d\d-\d\d-\d\d", "some day", listed)
    with pytest.raises(ValueError, match="has no date on which it was read"):
        read_table(FILES[name], name, f"{rows}\n[sources]\n{undated}")
    days = re.findall(r"20\d\d-\d\d-\d\d", str(tomllib.loads(text)["sources"]))
    assert read_table(FILES[name], name).read_on == max(days)
    releases = tables().packages.releases
    assert {row.read_on for row in releases} <= set(
        re.findall(r"20\d\d-\d\d-\d\d", read_package_file("data/cuda/packages.toml"))
    )


@pytest.mark.parametrize("name", FILES)
def test_no_source_is_listed_for_nothing(name: str) -> None:
    rows, _, listed = read_package_file(f"data/cuda/{name}").partition("\n[sources]\n")
    keys = set(re.findall(r"(?m)^([\w-]+) = ", listed))
    assert keys == set(re.findall(r'source = "([^"]+)"', rows))


def test_drivers_say_their_branch_and_sort_as_numbers() -> None:
    assert read_driver("570.26") == Driver(570, 26)
    assert str(read_driver("570.26")) == "570.26"
    assert read_driver("550.54.15").branch == 550
    assert read_driver("535.86.09") < read_driver("535.104.05") < read_driver("550.54.14")


@given(st.integers(100, 99999), st.integers(0, 9999), st.integers(1, 9999))
def test_every_driver_is_read_as_it_is_written(major: int, minor: int, patch: int) -> None:
    driver = Driver(major, minor, patch)
    assert Driver.parse(str(driver)) == driver
    assert driver_in(f"{driver}-grid") == (driver, "-grid")
    assert Driver.parse(f"{major}.{minor}") == Driver(major, minor)


@given(st.text("0159.-g", max_size=12))
def test_what_is_no_driver_is_none(text: str) -> None:
    parts = text.split(".")
    plain = all(part.isdecimal() and len(part) <= 4 for part in parts[1:]) and parts[0].isdecimal()
    assert (Driver.parse(text) is not None) == (plain and 3 <= len(parts[0]) <= 5 and len(parts) in {2, 3})


@pytest.mark.parametrize(
    "text",
    ["", "550", "550.54.15-grid", "550.54.15.1", "v550.54.15", " 550.54.15", "550.54.15\n", "12.4", "550.54.1\u0665"],
)
def test_a_driver_is_taken_plain_or_not_at_all(text: str) -> None:
    assert Driver.parse(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("550.54.15-grid", (Driver(550, 54, 15), "-grid")),
        ("550.54.15", (Driver(550, 54, 15), "")),
        ("R535.183.01", (Driver(535, 183, 1), "R")),
        ("550.54.15 or 535.183.01", (None, "550.54.15 or 535.183.01")),
        ("1.550.54.15", (None, "1.550.54.15")),
        ("none", (None, "none")),
    ],
)
def test_a_driver_within_a_text(text: str, found: tuple[Driver | None, str]) -> None:
    assert driver_in(text) == found


@pytest.mark.parametrize("text", ["12", "12.6.3", "sm_80", "", "12.6 ", "-1.0"])
@pytest.mark.parametrize("kind", [Cuda, Capability])
def test_two_numbers_or_nothing(kind: type[Cuda] | type[Capability], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        kind.parse(text)
    assert str(kind.parse("12.10")) == "12.10"


@pytest.mark.parametrize(
    ("driver", "cuda", "at_least", "reason"),
    [
        ("449.99.99", None, False, "older than R450, the oldest known branch"),
        ("450.80.02", "11.0", False, None),
        ("550.54.15", "12.4", False, None),
        ("580.95.05", "13.0", False, None),
        ("585.10.01", "13.0", True, "R585 is unknown: like R580 before it, at least CUDA 13.0"),
        ("615.31", "13.4", False, None),
    ],
)
def test_the_cuda_of_a_driver(driver: str, cuda: str | None, at_least: bool, reason: str | None) -> None:
    answer = offer_of(read_driver(driver))
    assert isinstance(answer, CudaOffer)
    assert (str(answer.cuda) if answer.cuda else None, answer.at_least) == (cuda, at_least)
    assert (answer.reason is None) if reason is None else (reason in (answer.reason or ""))


def test_a_driver_newer_than_the_table_offers_at_least_the_newest_known_cuda() -> None:
    newest = tables().drivers.branches[-1]
    answer = offer_of(read_driver(f"{newest.branch + 5}.10"))
    assert isinstance(answer, CudaOffer)
    assert (answer.cuda, answer.at_least) == (newest.cuda, True)
    assert answer.reason is not None
    assert f"R{newest.branch + 5} is newer than R{newest.branch}, the newest known branch" in answer.reason
    assert f"at least CUDA {newest.cuda}" in answer.reason


def test_newer_branches_offer_newer_cuda() -> None:
    for before, after in pairwise(tables().drivers.branches):
        assert before.cuda < after.cuda, after


def test_a_newer_toolkit_never_needs_an_older_driver() -> None:
    known = [toolkit for toolkit in tables().drivers.toolkits if toolkit.driver]
    assert len(known) > 50
    for before, after in pairwise(known):
        assert (before.driver or Driver(0, 0)) <= (after.driver or Driver(0, 0)), after


def test_a_toolkit_comes_with_the_branch_that_reports_its_cuda() -> None:
    for toolkit in tables().drivers.toolkits:
        floor = floor_of(toolkit.cuda.major)
        assert floor
        if toolkit.driver and toolkit.cuda.major >= 11:
            assert offer_of(toolkit.driver) == CudaOffer(toolkit.cuda, offer_of(toolkit.driver).branch), toolkit


def test_a_toolkit_by_its_number() -> None:
    latest = toolkit_of("12.6.3")
    assert latest
    assert (latest.version, latest.driver) == ("12.6 U3", Driver(560, 35, 5))
    assert toolkit_of("12.6") == toolkit_of("12.6.0") != latest
    assert toolkit_of("12.7") is None
    unconfirmed = toolkit_of("13.5")
    assert unconfirmed
    assert unconfirmed.driver is None
    assert unconfirmed.note


def test_floors() -> None:
    found = {major: str(floor.driver) for major in range(9, 15) if (floor := floor_of(major))}
    assert found == {10: "440.33", 11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


@pytest.mark.parametrize(
    ("cuda", "branch", "expected"),
    [
        ((12, 8), 535, "ok"),
        ((12, 8), 570, "not-needed"),
        ((12, 8), 580, "never"),
        ((12, 8), 550, "unsupported"),
        ((13, 4), 610, "ok"),
        ((12, 2), 535, "not-needed"),
    ],
)
def test_forward_compatibility(cuda: tuple[int, int], branch: int, expected: Forward) -> None:
    compat = compat_of(Cuda(*cuda))
    assert compat
    assert compat.on(branch) == expected


def test_forward_compatibility_follows_the_branches() -> None:
    """A libcuda is for older hosts: nothing is forward compatible with a branch that offers as much or more."""
    offered = {branch.branch: branch.cuda for branch in tables().drivers.branches}
    for compat in tables().drivers.compat:
        assert all(offered[branch] < compat.cuda for branch in compat.ok), compat
        assert all(offered[branch] == compat.cuda for branch in compat.not_needed), compat
        assert all(offered[branch] > compat.cuda for branch in compat.never), compat
    assert compat_of(Cuda(12, 7)) is None


@pytest.mark.parametrize(
    ("capability", "name", "last", "last_branch"),
    [
        ("3.0", "Kepler", "10.2", 470),
        ("3.7", "Kepler", "11.8", 470),
        ("5.2", "Maxwell", "12.9", 580),
        ("6.1", "Pascal", "12.9", 580),
        ("7.0", "Volta", "12.9", 580),
        ("7.5", "Turing", None, None),
        ("8.0", "Ampere", None, None),
        ("8.6", "Ampere", None, None),
        ("8.9", "Ada", None, None),
        ("9.0", "Hopper", None, None),
        ("10.0", "Blackwell", None, None),
        ("12.1", "Blackwell", None, None),
        ("10.1", "Thor", "12.9", None),
        ("11.0", "Thor", None, None),
        ("10.7", "Rubin", None, None),
    ],
)
def test_architectures(capability: str, name: str, last: str | None, last_branch: int | None) -> None:
    found = architecture_of(Capability.parse(capability))
    assert found
    assert (found.name, str(found.last) if found.last else None, found.last_branch) == (name, last, last_branch)


def test_an_unknown_capability_is_none() -> None:
    assert architecture_of(Capability(8, 8)) is None
    assert architecture_of(Capability(99, 0)) is None


def test_open_modules_begin_with_turing() -> None:
    for known in tables().gpus.architectures:
        if known.open_modules:
            assert (known.open_modules == "impossible") == (known.capabilities[-1] < Capability(7, 5)), known


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", "data-center"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "data-center"),
        ("NVIDIA H100 80GB HBM3", "data-center"),
        ("NVIDIA GH200 480GB", "data-center"),
        ("NVIDIA L40S", "data-center"),
        ("NVIDIA L4-SHARED", "data-center"),
        ("Tesla T4", "data-center"),
        ("Tesla-V100-SXM2-16GB", "data-center"),
        ("NVIDIA B200", "data-center"),
        ("NVIDIA GeForce RTX 4090", "geforce"),
        ("NVIDIA-GeForce-GTX-1080-Ti", "geforce"),
        ("NVIDIA TITAN RTX", "geforce"),
        ("NVIDIA RTX A6000", "professional"),
        ("Quadro RTX 8000", "professional"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "data-center"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "professional"),
        ("NVIDIA A800-SXM4-80GB", "data-center"),
        ("NVIDIA A800 40GB Active", None),
        ("NVIDIA L2", "data-center"),
        ("GRID T4-16Q", "vgpu"),
        ("NVIDIA A40-48Q", "vgpu"),
        ("NVIDIA T1000 8GB", "professional"),
        ("Orin (nvgpu)", "jetson"),
        ("NVIDIA GB10", None),
        ("", None),
    ],
)
def test_what_a_gpu_is_sold_as(name: str, kind: GpuClass | None) -> None:
    assert gpu_class(name) == kind


@pytest.mark.parametrize(
    ("package", "version", "versions", "default"),
    [
        ("torch", "1.9.1", ">=1.8.1,<1.10", "cu102"),
        ("torch", "2.0.0", ">=2.0,<2.1", "cu117"),
        ("torch", "2.3.1", ">=2.1,<2.4", "cu121"),
        ("torch", "2.4.0", ">=2.4,<2.5", "cu121"),
        ("torch", "2.10.0", ">=2.10,<2.11", "cu128"),
        ("torch", "2.11.0", ">=2.11,<2.12", "cu130"),
        ("torch", "2.14.1+cu126", ">=2.14,<2.15", "cu130"),
        ("onnxruntime-gpu", "1.18.1", ">=1.15,<1.19", "cu118"),
        ("onnxruntime-gpu", "1.26.0", ">=1.23,<1.27", "cu12"),
        ("onnxruntime-gpu", "1.27.0", ">=1.27,<1.28", "cu13"),
        ("tensorflow", "2.21.0", ">=2.21,<2.22", "cu12"),
        ("jax", "0.10.2", ">=0.7.2,<0.12", None),
        ("jax-cuda13-plugin", "0.7.2", ">=0.7.2,<0.12.1", "cuda13"),
        ("cupy-cuda12x", "13.6.0", ">=12.0,<14.0", "cuda12"),
        ("tensorrt", "11.4.0.106", ">=11.4,<11.5", "cu13"),
    ],
)
def test_the_release_of_a_version(package: str, version: str, versions: str, default: str | None) -> None:
    found = release(package, version)
    assert (found.versions, found.default) == (versions, default)


@pytest.mark.parametrize(
    ("package", "version", "reason"),
    [
        ("torch", "99.0", "torch 99.0 is newer than the known releases, which end before "),
        ("torch", "99.0.dev20261101", "is newer than the known releases"),
        ("torch", "1.6.0", "torch 1.6.0 is older than the oldest known release, 1.7"),
        ("torch", "newest", "'newest' is not a version of torch"),
        ("vllm", "0.27.0", "vllm 0.27.0 lies in a gap between the known releases"),
        ("numpy", "2.0", "the tables do not list numpy"),
    ],
)
def test_what_is_not_recorded_is_unknown(package: str, version: str, reason: str) -> None:
    assert reason in unknown(package, version)


def test_the_gpus_of_torch() -> None:
    cu126, cu128 = release("torch", "2.8.0").variant("cu126"), release("torch", "2.8.0").variant()
    assert cu126
    assert cu126.x86_64
    assert max(cu126.x86_64) == Capability(9, 0)
    assert cu126.ptx_x86_64 is None
    assert cu128
    assert (cu128.cuda, cu128.libraries) == (Cuda(12, 8), "wheels")
    assert release("torch", "2.8.0").variant("cu130") is None
    unread = release("torch", "2.7.0").variant("cu118")
    assert unread
    assert unread.x86_64 is None


def test_variants_are_named_for_their_cuda() -> None:
    for bands in tables().packages.by_package.values():
        for variant in (variant for band in bands for variant in band.variants):
            digits = variant.name.removeprefix("cuda").removeprefix("cu")
            assert str(variant.cuda).replace(".", "").startswith(digits), variant
            assert variant.cuda_below is None or variant.cuda is None or variant.cuda < variant.cuda_below, variant


def test_a_gpu_of_a_variant_can_be_built_for_by_its_toolkit() -> None:
    """Two tables that come from different sources agree."""
    for bands in tables().packages.by_package.values():
        for variant in (variant for band in bands for variant in band.variants):
            for capability in (*(variant.x86_64 or ()), *(variant.aarch64 or ())):
                known = architecture_of(capability)
                assert known
                assert variant.cuda
                newest = variant.cuda_below or variant.cuda  # built with a newer CUDA than the oldest it works with
                assert known.first is None or known.first <= newest, (variant, capability)
                assert known.last is None or known.last >= variant.cuda, (variant, capability)


def test_every_build_says_for_which_gpus_it_is() -> None:
    for package, bands in tables().packages.by_package.items():
        for band in bands:
            for variant in band.variants if band.follows is None else ():
                said = variant.x86_64 or variant.at_run_time or variant.unread or variant.min_capability
                assert said, (package, band.versions, variant.name)


def test_packages_that_follow_another() -> None:
    assert release("torchvision", "0.29.1").follows == "torch"
    assert release("jaxlib", "0.9.0").follows == "jax"
    vllm = release("vllm", "0.33.0")
    assert (vllm.follows, vllm.torch) == ("torch", "2.14.0")
    for package, bands in tables().packages.by_package.items():
        for band in bands:
            assert band.follows is None or band.follows in tables().packages.by_package, package
            assert band.torch is None or release("torch", band.torch).variant(), package


def test_packages_that_are_compiled() -> None:
    flash = release("flash-attn", "2.8.3")
    assert flash.compiled
    assert not flash.variants


def test_extras_that_bring_the_libraries() -> None:
    def extras(package: str, version: str) -> tuple[str, ...]:
        variant = release(package, version).variant()
        assert variant
        assert variant.libraries == "system"
        return variant.extras

    assert extras("onnxruntime-gpu", "1.31.1") == ("cuda", "cudnn")
    assert extras("onnxruntime-gpu", "1.27.0") == ()
    assert extras("onnxruntime-gpu", "1.20.2") == ()
    assert extras("tensorflow", "2.20.0") == ("and-cuda",)


def test_the_index_of_the_variants() -> None:
    assert wheel_index().of("cu126") == "https://download.pytorch.org/whl/cu126"
    assert {"torch", "torchvision", "torchaudio"} <= set(wheel_index().packages)


@pytest.mark.parametrize(
    ("name", "version", "cuda", "major", "sonames"),
    [
        ("nvidia-cuda-runtime-cu12", "12.6.77", "12.6", 12, ("libcudart.so.12",)),
        ("nvidia-cuda-runtime-cu11", "11.8.89", "11.8", 11, ("libcudart.so.11.0",)),
        ("nvidia-cuda-runtime", "13.0.96", "13.0", 13, ("libcudart.so.13",)),
        ("nvidia-cuda-runtime-cu13", "0.0.1", None, 13, ()),
        ("cuda-toolkit", "13.0.2", "13.0", 13, ()),
        ("nvidia-cublas-cu12", "12.6.4.1", None, 12, ("libcublas.so.12", "libcublasLt.so.12")),
        ("nvidia-cublas", "13.1.0.3", None, 13, ("libcublas.so.13", "libcublasLt.so.13")),
        ("nvidia-cufft-cu12", "11.3.0.4", None, 12, ("libcufft.so.11",)),
        ("nvidia-cufft", "12.0.0.61", None, None, ("libcufft.so.12",)),
        ("nvidia-curand", "10.4.5.25", None, None, ("libcurand.so.10",)),
        ("nvidia-cudnn-cu13", "9.24.0.43", None, 13, ("libcudnn.so.9",)),
        ("nvidia-nccl-cu12", "2.27.5", None, 12, ("libnccl.so.2",)),
        ("nvidia-cusparselt-cu12", "0.7.1", None, 12, ("libcusparseLt.so.0",)),
        ("nvidia-nvjitlink-cu12", "12.8.93", "12.8", 12, ("libnvJitLink.so.12",)),
        ("nvidia-cuda-nvrtc-cu11", "11.7.99", "11.7", 11, ("libnvrtc.so.11.2",)),
    ],
)
def test_a_pin_of_a_cuda_library(
    name: str, version: str, cuda: str | None, major: int | None, sonames: tuple[str, ...]
) -> None:
    pin = library_pin(name, version)
    assert pin
    assert (str(pin.cuda) if pin.cuda else None, pin.major, pin.sonames) == (cuda, major, sonames)


@pytest.mark.parametrize(
    ("name", "version"),
    [("torch", "2.8.0"), ("nvidia-ml-py", "13.615.71"), ("nvidia-cudnn", "9.1"), ("nvidia-cuda-runtime", "latest")],
)
def test_what_is_no_cuda_library(name: str, version: str) -> None:
    assert library_pin(name, version) is None


@pytest.mark.parametrize(
    ("cuda", "flavour", "distro", "tag"),
    [
        ("11.8", "cudnn-runtime", "ubuntu22.04", "11.8.0-cudnn8-runtime-ubuntu22.04"),
        ("12.2", "cudnn-devel", "ubuntu20.04", "12.2.2-cudnn8-devel-ubuntu20.04"),
        ("12.3", "cudnn-runtime", "ubuntu22.04", "12.3.2-cudnn9-runtime-ubuntu22.04"),
        ("12.4", "cudnn-runtime", "ubuntu22.04", "12.4.1-cudnn-runtime-ubuntu22.04"),
        ("12.6", "runtime", "ubuntu24.04", "12.6.3-runtime-ubuntu24.04"),
        ("12.8", "devel", "ubuntu22.04", "12.8.2-devel-ubuntu22.04"),
        ("13.0", "cudnn-devel", "ubuntu24.04", "13.0.3-cudnn-devel-ubuntu24.04"),
        ("12.4", "runtime", "ubuntu24.04", None),
        ("13.0", "runtime", "ubuntu20.04", None),
        ("12.7", "runtime", "ubuntu22.04", None),
        ("12.6", "tensorrt", "ubuntu22.04", None),
    ],
)
def test_images(cuda: str, flavour: str, distro: str, tag: str | None) -> None:
    image = nvidia_image(Cuda.parse(cuda), flavour, distro)
    assert (image.tag(flavour) if image else None) == tag


def test_one_point_release_of_a_minor_is_kept() -> None:
    for before, after in pairwise(tables().images):
        if before.cuda == after.cuda and before.version != after.version:
            assert before.gone, before
    for image in tables().images:
        assert not image.gone or image.note, image
        assert set(image.flavours) <= set(FLAVOURS)


def test_ubuntu_by_version() -> None:
    for image in tables().images:
        assert image.distro != "ubuntu24.04" or image.cuda >= Cuda(12, 5), image
        assert image.distro != "ubuntu20.04" or image.cuda < Cuda(13, 0), image


def test_every_fact_has_a_source() -> None:
    known = tables()
    drivers, gpus = known.drivers, known.gpus
    releases = [item for bands in known.packages.by_package.values() for item in bands]
    sources = [item.source for item in drivers.branches]
    sources += [item.source for item in drivers.toolkits]
    sources += [item.source for item in drivers.floors]
    sources += [item.source for item in drivers.compat]
    sources += [item.source for item in gpus.architectures]
    sources += [item.source for item in gpus.classes]
    sources += [item.source for item in known.images]
    sources += [item.source for item in known.libraries]
    sources += [item.source for item in releases]
    sources += [variant.source for item in releases for variant in item.variants]
    assert len(sources) > 200
    assert all(len(source) > 40 for source in sources)


@pytest.mark.slow
def test_no_table_is_read_on_import() -> None:
    code = "import mlship.cuda.tables.lookup as t; print(t.tables.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=limit(60))
    assert done.stdout.strip() == "0"


@pytest.fixture(name="refresh")
def _refresh(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("scripts_refresh_tables", str(Path(__file__).parents[3] / "scripts" / "refresh-tables"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)  # dataclasses look their module up
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("package", "version", "requires", "extras", "differences"),
    [
        (
            "torch",
            "2.14.1",
            ['cuda-toolkit[cudart]==13.0.3; platform_system == "Linux"', "nvidia-cudnn-cu13==9.24.0.43"],
            [],
            [],
        ),
        (
            "torch",
            "2.14.2",
            ["cuda-toolkit[cudart]==13.2.1", 'nvidia-cudnn-cu13==9.25.0.1; platform_system == "Linux"'],
            [],
            [
                "the row has CUDA 13.0, the metadata cuda-toolkit 13.2.1",
                "the row has cuDNN 9.24, the metadata nvidia-cudnn-cu13 9.25.0.1",
            ],
        ),
        ("torch", "2.14.1", ['cuda-toolkit==12.8.1; sys_platform == "win32"'], [], []),
        (
            "tensorflow",
            "2.21.0",
            ['nvidia-cuda-runtime-cu12<13.0,>=12.5.82; extra == "and-cuda"'],
            ["and-cuda"],
            [],
        ),
        (
            "tensorflow",
            "2.21.1",
            ['nvidia-cuda-runtime<14.0,>=13.0.48; extra == "and-cuda"'],
            ["cuda"],
            [
                "the row has the extras ['and-cuda'], the metadata has ['cuda']",
                "the row has CUDA 12.5, the metadata nvidia-cuda-runtime 13.0.48",
            ],
        ),
        ("vllm", "0.33.0", ["torch==2.14.0"], [], []),
        ("vllm", "0.33.0", ["torch==2.15.0"], [], ["the row has torch 2.14.0, the metadata torch 2.15.0"]),
    ],
)
def test_what_the_refresher_calls_a_difference(
    refresh: ModuleType, package: str, version: str, requires: list[str], extras: list[str], differences: list[str]
) -> None:
    found = refresh.Metadata(version, tuple(Requirement(text) for text in requires), frozenset(extras))
    row = release(package, version)
    assert list(refresh.differences(row, row.variant(), found)) == differences


def test_the_support_of_a_driver_ends_as_the_tables_say() -> None:
    assert support_of(Driver(535, 183, 1)) == ("NVIDIA's support for driver branch R535 ended in 2026-06", True)
    assert support_of(Driver(580, 95, 5)) == ("NVIDIA's support for driver branch R580 ends in 2028-06", False)
    assert support_of(Driver(555, 42, 2)) is None, "no source gives its end"
    assert support_of(Driver(999, 1)) is None


@pytest.mark.parametrize(
    ("package", "ahead", "far"),
    [("torch", 0, False), ("torch", 1, False), ("torch", 2, True), ("torch", 50, True), ("numpy", 50, False)],
)
def test_a_release_far_after_the_newest_row(package: str, ahead: int, far: bool) -> None:
    end = tables().packages.by_package["torch"][-1].band[1]
    last = end.minor if end.micro else end.minor - 1
    assert is_far_newer(package, f"{end.major}.{last + ahead}.0") is far
    assert not is_far_newer(package, "1.0")
    assert not is_far_newer(package, "no version")
    assert is_far_newer("torch", f"{end.major + 1}.0")
