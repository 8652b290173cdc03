"""What helps a lock that does not run, applied to the lock or the host as a user would, makes it run."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlship.cuda.fit.fits import Fits, fit_lock
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import tables
from mlship.cuda.tables.rows import Release, Variant
from mlship.lock.foreign import read_foreign_lock

AMD = "linux/amd64"
LISTED = [
    f"{release.package}=={release.band[0] if release.versions else '2.1.2'}{local}"
    for releases in tables().packages.by_package.values()
    for release in releases
    for local in ("", *(f"+{v.name}" for v in release.variants if release.package in {"torch", "torch-scatter"}))
]
LOCKS = st.lists(
    st.sampled_from([*LISTED, "nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cublas==13.1.0.3", "numpy==2.3.2"]),
    min_size=1,
    max_size=3,
    unique_by=lambda line: line.partition("==")[0],
)
HOSTS = st.lists(
    st.tuples(
        st.sampled_from(["418.39", "450.80.02", "470.199.02", "525.60.13", "535.161.08", "550.54.15", "570.124.06",
                         "580.95.05", "595.58.03", "640.10"]),
        st.sampled_from(["3.7", "5.2", "6.0", "7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"]),
    ),
    min_size=1,
    max_size=2,
)  # fmt: skip
RELEASE = re.compile(
    r"`(?P<package>[\w-]+)(?:<(?P<end>[\w.]+))?`(?:: its build | \()(?P<build>\w+) from (?P<from>PyT|PyPI)"
)
COMPANIONS = re.compile(r"\(and ([^)]*) for that torch\)")
DRIVER = re.compile(r"(h\d) to >= ([\d.]+)")


def answer(lines: list[str], hosts: list[tuple[str, str]]) -> Fits:
    profiles = [HostProfile(f"h{n}", driver, (HostGpu("GPU", cc),), AMD) for n, (driver, cc) in enumerate(hosts)]
    with TemporaryDirectory() as folder:
        (Path(folder) / "lock").write_text("\n".join(lines))
        return fit_lock(read_foreign_lock(Path(folder) / "lock", AMD), Fleet(tuple(profiles), "h", committed=True), AMD)


def build(package: str, end: str | None, name: str) -> tuple[Release, Variant]:
    """The row and the build that a change names."""
    rows = tables().packages.by_package[package]
    row = next(row for row in rows if end is None or str(row.band[1]) == end)
    variant = row.variant(name)
    assert variant, (package, end, name)
    return row, variant


def relocked(lines: list[str], change: str) -> list[str]:
    """The lock after a change: the release, and the libraries of its CUDA in place of those before."""
    pins = {line.partition("==")[0]: line for line in lines if not line.startswith(("nvidia-cu", "cuda-toolkit"))}
    brought = len(pins) < len(lines)
    dropped = {"triton", *re.findall(r"torch\w+", "".join(COMPANIONS.findall(change)))}  # torch requires triton itself
    pins = {name: line for name, line in pins.items() if name not in dropped or "`torch<" not in change}
    for found in RELEASE.finditer(change):
        row, variant = build(found["package"], found["end"], found["build"])
        before = pins.get(row.package, "==").partition("==")[2].partition("+")[0]
        version = f"{row.band[0] if row.versions else before}{f'+{variant.name}' if found['from'] == 'PyT' else ''}"
        extras = f"[{','.join(variant.extras)}]" if brought and variant.extras else ""
        pins[row.package] = f"{row.package}{extras}=={version}"
    return list(pins.values())


def holds(lines: list[str], hosts: list[tuple[str, str]], change: str) -> None:
    drivers = dict(DRIVER.findall(change))
    changed = [(drivers.get(f"h{n}", driver), cc) for n, (driver, cc) in enumerate(hosts)]
    after = answer(relocked(lines, change) if "lock `" in change else lines, changed)
    assert after.outcome == ("unknown" if "whether it then runs is unknown: " in change else "runs"), (change, after)


@given(LOCKS, HOSTS)
@example(["torch==2.14", "xgboost==3.4"], [("550.54.15", "8.0")])
@example(["vllm==0.33"], [("550.54.15", "8.0")])
@example(["torch==2.14", "torchvision==0.29"], [("470.199.02", "3.7")])
def test_every_change_that_is_said_to_help_does(lines: list[str], hosts: list[tuple[str, str]]) -> None:
    found = answer(lines, hosts)
    assert found.outcome == "refused" or not found.changes
    for change in found.changes:
        holds(lines, hosts, change)


@pytest.mark.parametrize(
    ("lines", "host", "changes"),
    [
        (["torch==2.14.0"], ("550.54.15", "8.0"), ["lock `torch<2.15`: its build cu126", "update the driver: h0"]),
        (["torch==2.14.0"], ("550.54.15", "6.1"), ["lock `torch<2.15`: its build cu126"]),
        (["torch==2.14.0", "xgboost==3.4.1"], ("550.54.15", "8.0"), ["lock `torch<2.15` (cu126", "update the driver"]),
        (["torch==2.0.0"], ("580.95.05", "12.0"), ["lock `torch"]),
        (["faiss-gpu-cu12==1.14.1"], ("580.95.05", "12.0"), []),
        (
            ["torch==2.4.0+cu121", "torchvision==0.19.0+cu121", "torchaudio==2.4.0+cu121", "triton==3.0.0"],
            ("470.82.01", "8.0"),
            [
                "lock `torch<2.7`: its build cu118 from PyTorch's wheel index (and torchaudio and torchvision for that",
                "update the driver",
            ],
        ),
        (["torch==2.7.1"], ("470.82.01", "12.0"), ["update the driver: h0 to >= 570.00, and lock `torch<2.12`: its"]),
    ],
)
def test_what_helps(lines: list[str], host: tuple[str, str], changes: list[str]) -> None:
    found = answer(lines, [host])
    assert len(found.changes) == len(changes), found.changes
    for change, begins in zip(found.changes, changes, strict=True):
        assert change.startswith(begins)
        holds(lines, [host], change)
