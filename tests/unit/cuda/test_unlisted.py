"""A package that no table lists never makes a lock run, and CUDA's libraries have a driver floor of their own."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlship.cuda.fit.carriers import built_for_torch, carries_cuda, named_cuda
from mlship.cuda.fit.fits import fit_lock
from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import architecture_of, floor_of, tables
from mlship.cuda.tables.rows import Variant
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.frameworks import framework_table
from mlship.lock.foreign import ForeignLock
from mlship.lock.pins import Pin

WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)
MAJORS = st.sampled_from([11, 12, 13])
UNLISTED = st.one_of(
    st.builds("{}-cu{}".format, WORDS, MAJORS),
    st.builds("{}-cuda{}x".format, WORDS, MAJORS),
    st.builds("{}-cu{}{}".format, WORDS, MAJORS, st.integers(0, 9)),
    st.builds("{}-gpu".format, WORDS),
    st.builds("nvidia-{}".format, WORDS),
    st.builds("{}-cuda-{}".format, WORDS, WORDS),
    st.sampled_from(["pycuda", "cuml-cu12", "tensorrt-llm", "flashinfer-python", "paddlepaddle-gpu", "cupy"]),
).filter(lambda name: name not in tables().packages.by_package)
LISTED = st.lists(
    st.sampled_from([
        "torch==2.8.0+cu128", "torch==2.6.0+cu126", "onnxruntime-gpu==1.26.0", "torch==99.0", "xgboost==3.4.1",
        "nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cublas==13.1.0.3", "nvidia-nccl-cu13==2.28.9", "numpy==2.3.2",
        "nvidia-cudnn-cu12==9.10.2.21", "cuda-bindings==13.0.3", "nvidia-ml-py==13.580.82", "torchvision==0.23.0",
    ]),
    max_size=4,
)  # fmt: skip
HOSTS = st.builds(
    lambda driver, capability: HostProfile("h", driver, (HostGpu("GPU", capability),), "linux/amd64"),
    st.sampled_from(["450.80.02", "470.199.02", "525.60.13", "535.161.08", "550.54.15", "580.95.05", "640.10"]),
    st.sampled_from(["5.2", "6.0", "7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "12.0", "12.1"]),
)


def matched(texts: list[str], host: HostProfile) -> Match:
    pins = {name: Pin(name, version, ()) for name, _, version in (text.partition("==") for text in texts)}
    needs = read_needs(tuple(pins.values()), host.platform, gpu=True)
    return match_needs(needs, Fleet((host,), "h", committed=False), "bookworm")


@given(UNLISTED, LISTED, HOSTS)
def test_a_lock_with_an_unlisted_package_never_runs(name: str, listed: list[str], host: HostProfile) -> None:
    match = matched([f"{name}==1.2.3", *listed], host)
    assert match.outcome != "runs"
    assert any(verdict.stack.startswith(name) for verdict in match.verdicts)


@given(UNLISTED, HOSTS)
def test_the_major_in_a_name_has_its_floor(name: str, host: HostProfile) -> None:
    cuda = named_cuda(Pin(name, "1.2.3", ()))
    floor = floor_of(cuda.major) if cuda else None
    driver = Driver.parse(host.driver)
    if floor and driver and driver < floor.driver:
        assert matched([f"{name}==1.2.3"], host).outcome == "refused"


@given(UNLISTED, HOSTS, st.sampled_from(["", " 1.0 or 2.0"]))
def test_a_name_without_a_version_has_the_floor_of_its_major(name: str, host: HostProfile, versions: str) -> None:
    cuda, driver = named_cuda(Pin(name, "0", ())), Driver.parse(host.driver)
    floor = floor_of(cuda.major) if cuda else None
    lock = ForeignLock((Pin("numpy", "2.3.2", ()),), (name + versions,), whole=False)
    found = fit_lock(lock, Fleet((host,), "h", committed=False), host.platform)
    assert found.outcome != "runs"
    if floor and driver and driver < floor.driver:
        assert found.outcome == "refused"


@given(LISTED, HOSTS)
def test_a_lock_runs_only_by_a_verdict(listed: list[str], host: HostProfile) -> None:
    match = matched(listed, host)
    if match.outcome == "runs":
        assert match.verdicts
        assert all(verdict.outcome == "runs" and verdict.reasons for verdict in match.verdicts)


RELEASES = [
    (f"{release.package}=={release.band[0]}+{variant.name}", variant)
    for releases in tables().packages.by_package.values()
    for release in releases
    for variant in release.variants
    if variant.cuda and not release.follows
]


def forbids(variant: Variant, host: HostProfile) -> bool:
    """Whether the row alone says that a build cannot run there."""
    driver, capability = Driver.parse(host.driver), Capability.parse(host.gpus[0].capability or "")
    floor = floor_of(variant.cuda.major) if variant.cuda else None
    cubins, ptx = variant.x86_64 or (), variant.ptx_x86_64
    runs = any(one.major == capability.major and one <= capability for one in cubins) or (ptx and ptx <= capability)
    lacks = variant.x86_64 is not None and not runs and capability not in variant.specific_x86_64
    limits = [variant.min_driver, floor.driver if floor else None]
    too_old = any(limit and driver and driver < limit for limit in limits)
    return bool(lacks or too_old or (variant.min_capability and capability < variant.min_capability))


OLD = HostProfile("h", "580.95.05", (HostGpu("GPU", "6.0"),), "linux/amd64")
NO_CODE = next(row for row in RELEASES if row[0].startswith("torch==2.8") and row[0].endswith("+cu128"))


@example(NO_CODE, [], OLD)
@given(st.sampled_from(RELEASES), LISTED, HOSTS)
def test_no_lock_runs_that_a_row_forbids(row: tuple[str, Variant], listed: list[str], host: HostProfile) -> None:
    text, variant = row
    name = text.partition("==")[0]
    match = matched([*(other for other in listed if not other.startswith(f"{name}==")), text], host)
    if forbids(variant, host):
        assert match.outcome != "runs"


@example("jax-cuda12-plugin==0.10.2", "12.6", HostProfile("h", "580.95.05", (HostGpu("GPU", "12.0"),), "linux/amd64"))
@given(
    st.sampled_from([text for text, variant in RELEASES if variant.at_run_time and variant.libraries == "system"]),
    st.sampled_from(["11.8", "12.2", "12.6", "12.8", "12.9", "13.0"]),
    HOSTS,
)
def test_kernels_compiled_at_run_time_run_where_the_locked_libraries_do(
    text: str, cuda: str, host: HostProfile
) -> None:
    major = cuda.partition(".")[0]
    suffix = f"-cu{major}" if major != "13" else ""
    libraries = [f"nvidia-{name}{suffix}=={cuda}.1" for name in ("cuda-runtime", "cublas")]
    match = matched([text.partition("+")[0], *libraries, f"nvidia-cudnn-cu{major}==9.12.0.46"], host)
    known = architecture_of(Capability.parse(host.gpus[0].capability or ""))
    supports = known and (known.first or Cuda(0, 0)) <= Cuda.parse(cuda) <= (known.last or Cuda(99, 0))
    if not supports:
        assert match.outcome != "runs"


LISTS = [
    (Pin(release.package, str(release.band[0]), (), extras=variant.extras), variant)
    for release in tables().packages.releases
    if release.versions and not release.follows and (variant := release.variant()) and variant.cuda
]

TORCH = next(row for row in LISTS if row[0].name == "torch" and row[0].version == "2.8")


@given(st.lists(st.sampled_from(LISTS), min_size=1, max_size=3), HOSTS)
@example([TORCH], OLD)
@example([TORCH], HostProfile("h", "450.80.02", (HostGpu("GPU", "8.0"),), "linux/amd64"))
def test_no_list_runs_that_a_row_forbids(rows: list[tuple[Pin, Variant]], host: HostProfile) -> None:
    named = {pin.name: (pin, variant) for pin, variant in rows}
    lock = ForeignLock(tuple(pin for pin, _ in named.values()), whole=False)
    found = fit_lock(lock, Fleet((host,), "h", committed=False), host.platform)
    if any(forbids(variant, host) for _, variant in named.values()):
        assert found.outcome != "runs"


H100 = HostProfile("h", "580.95.05", (HostGpu("GPU", "9.0"),), "linux/amd64")
BRINGS = sorted((name, row.name) for row in framework_table().frameworks for name in row.required_by)
ADDRESSES = st.sampled_from([
    "-e .", "--editable git+https://github.com/a/b.git", "git+https://host/b@v1", "./wheels/b.tar.gz", "b-1.zip",
    "https://host/b.tar.gz", "/srv/b", "../b",
])  # fmt: skip


@given(st.sampled_from(BRINGS), st.sampled_from(["torch==2.8.0", "torch==2.10.0+cu128"]))
def test_a_list_with_a_package_that_brings_another_is_unknown(pair: tuple[str, str], listed: str) -> None:
    name, brought = pair
    carrier, _, version = listed.partition("==")
    pins = (Pin(carrier, version, ()), Pin(name, "1.0", ()))
    found = fit_lock(ForeignLock(pins, whole=False), Fleet((H100,), "h", committed=False), H100.platform)
    assert (brought == carrier) or found.outcome != "runs"


@given(ADDRESSES)
def test_a_list_with_an_address_is_unknown(entry: str) -> None:
    lock = ForeignLock((Pin("torch", "2.8.0", ()),), (entry,), whole=False)
    found = fit_lock(lock, Fleet((H100,), "h", committed=False), H100.platform)
    assert found.outcome == "unknown"
    assert f"what `{entry}` installs is unknown" in str(found.hosts)


@pytest.mark.parametrize("loose", ["flask", "Pillow >=9", "zope.interface"])
def test_a_list_with_a_name_without_cuda_runs(loose: str) -> None:
    lock = ForeignLock((Pin("torch", "2.8.0", ()),), (loose,), whole=False)
    assert fit_lock(lock, Fleet((H100,), "h", committed=False), H100.platform).outcome == "runs"


@pytest.mark.parametrize(
    ("name", "version", "cuda"),
    [
        ("faiss-gpu-cu12", "1.14.0", Cuda(12, 0)),
        ("nvidia-dali-cuda120", "1.50", Cuda(12, 0)),
        ("spconv-cu118", "2.3", Cuda(11, 8)),
        ("cupy-cuda92", "7.5", Cuda(9, 2)),
        ("mxnet-cu101", "1.7", Cuda(10, 1)),
        ("cupy-cuda12x", "20.0", Cuda(12, 0)),
        ("torch-scatter", "2.1.2+pt28cu128", Cuda(12, 8)),
        ("flash-attn", "2.8.3+cu12torch2.8cxx11abifalse", Cuda(12, 0)),
        ("jaxlib", "0.4.28+cuda12.cudnn89", Cuda(12, 0)),
        ("llama-cpp-python", "0.3.1+cu124", Cuda(12, 4)),
        ("numba-cuda", "0.30", None),
        ("document", "1.0", None),
    ],
)
def test_the_cuda_in_a_name_or_version(name: str, version: str, cuda: Cuda | None) -> None:
    assert named_cuda(Pin(name, version, ())) == cuda


@pytest.mark.parametrize(
    ("local", "release"),
    [("pt28cu128", "2.8"), ("pt210cu126", "2.10"), ("torch280cu128", "2.8"), ("torch2100cu130", "2.10"),
     ("cu124", None), ("cu118torch2.1cxx11abifalse", "2.1"), ("cuda12.1.torch2.3.1", "2.3"), ("torch28", "2.8")],
)  # fmt: skip
def test_the_torch_in_a_local_version(local: str, release: str | None) -> None:
    assert built_for_torch(Pin("x", f"1.0+{local}", ())) == release


@pytest.mark.parametrize(
    ("name", "carries"),
    [
        ("numba-cuda", True),
        ("nvidia-modelopt", True),
        ("paddlepaddle-gpu", True),
        ("mxnet-cu112", True),
        ("numpy", False),
        ("nvidia-ml-py", False),
        ("cuda-bindings", False),
        ("nvidia-cuda-runtime-cu12", False),
        ("nvidia-cutlass-dsl-libs-base", False),
        ("nvidia-cuda-cccl-cu12", False),
        ("gpustat", False),
        ("gsplat", True),
        ("cucumber", False),
    ],
)
def test_what_may_carry_cuda(name: str, carries: bool) -> None:
    assert carries_cuda(Pin(name, "12.8.90", ())) is carries


@pytest.mark.parametrize("pin", ["cuxfilter-cu12==26.2.1", "nvidia-nccl-cu12==2.27.3"])
def test_a_major_alone_refuses_no_newer_gpu(pin: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "12.1"),), "linux/amd64")
    assert matched([pin], host).outcome == "unknown"


@pytest.mark.parametrize(("driver", "kind"), [("525.147.05", "unsupported-driver"), ("535.161.08", "native")])
def test_a_driver_older_than_its_project_supports_is_a_warning(driver: str, kind: str) -> None:
    host = HostProfile("h", driver, (HostGpu("GPU", "8.0"),), "linux/amd64")
    (verdict,) = matched(["cudf-cu12==26.2.0"], host).verdicts
    assert (verdict.outcome, verdict.reasons[0].kind) == ("runs", kind)
    assert verdict.reasons[0].doubtful is (kind != "native")


def test_libraries_alone_have_a_floor_and_are_no_proof() -> None:
    """llama-cpp-python and others name no CUDA, and whether they use the libraries beside them is unknown."""
    host = HostProfile("h", "470.199.02", (HostGpu("GPU", "8.0"),), "linux/amd64")
    libraries = ["nvidia-cublas-cu12==12.9.1.4"]
    verdict = next(one for one in matched(libraries, host).verdicts if one.outcome == "refused")
    assert verdict.reasons[0].kind == "driver-floor"
    assert matched(libraries, replace(host, driver="580.95.05")).outcome == "unknown"


@pytest.mark.parametrize("pin", ["sherpa-onnx==1.12.11+cuda", "a==1+gpu", "a==1+rt.cuda", "open3d==0.19.0"])
def test_a_package_beside_torch_that_says_cuda_is_unknown(pin: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    torch = ["torch==2.8.0+cu128", "nvidia-cuda-runtime-cu12==12.8.90"]
    assert matched([*torch, pin], host).outcome == "unknown"
    assert matched([*torch, "a==1+cpu"], host).outcome == "runs"


def test_a_second_major_of_a_library_with_other_file_names_is_no_fault() -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    torch = ["torch==2.8.0+cu128", "nvidia-cuda-runtime-cu12==12.8.90"]
    assert matched([*torch, "nvidia-cuda-nvrtc==13.0.96"], host).outcome == "runs"
    assert matched([*torch, "nvidia-cudnn-cu12==9.10.2.21", "nvidia-cudnn-cu13==9.13.0.50"], host).outcome == "refused"


@pytest.mark.parametrize("pin", ["torch==2.8.0+rocm6.4", "onnxruntime-rocm==1.22", "torch==2.8.0+xpu", "mlx==0.29"])
def test_builds_for_other_vendors_are_named_and_refused(pin: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    match = matched([pin, "nvidia-cuda-runtime-cu12==12.8.90"], host)
    assert match.outcome == "refused"
    assert match.needs.problems[0].text.startswith(pin.replace("==", " "))
    assert "NVIDIA only" in match.needs.problems[0].text


def test_an_extension_for_the_cpu_is_no_build_for_another_vendor() -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    torch = ["torch==2.8.0+cu128", "nvidia-cuda-runtime-cu12==12.8.90"]
    assert matched([*torch, "intel-extension-for-pytorch==2.8.0"], host).outcome == "runs"
    assert matched([*torch, "intel-extension-for-pytorch==2.8.10+xpu"], host).outcome == "refused"


@pytest.mark.parametrize("torch", ["torch==2.8.0+cu128", "torch==2.8.0"])
def test_builds_of_two_variants_are_refused(torch: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    match = matched([torch, "torchvision==0.23.0+cu126", "nvidia-cuda-runtime-cu12==12.8.90"], host)
    assert match.outcome == "refused"
    assert "torch +cu128, torchvision +cu126" in match.needs.problems[0].text
    assert matched([torch, "torchvision==0.23.0+cu128", "nvidia-cuda-runtime-cu12==12.8.90"], host).outcome == "runs"


@pytest.mark.parametrize(
    ("pin", "cuda", "cudnn", "outcome", "words"),
    [
        ("onnxruntime-gpu==1.20.1", "12.1.105", "9.1.0.70", "runs", ""),
        ("onnxruntime-gpu==1.20.1", "12.1.105", "8.9.2.26", "refused", "needs cuDNN 9, but the lock has 8.9.2.26"),
        ("tensorflow==2.18.0", "12.5.82", "9.3.0.75", "runs", ""),
        ("tensorflow==2.18.0", "12.5.82", "9.1.0.70", "refused", "needs cuDNN 9.3, but the lock has 9.1.0.70"),
        ("tensorflow==2.18.0", "12.1.105", "9.3.0.75", "unknown", "needs CUDA 12.5 or newer, but the lock has 12.1"),
        ("torch==2.3.1", "12.1.105", "9.1.0.70", "refused", "torch 2.3.1 needs cuDNN 8.9"),
    ],
)
def test_libraries_that_packages_share(pin: str, cuda: str, cudnn: str, outcome: str, words: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    libraries = {"cuda-runtime": cuda, "cublas": cuda, "cudnn": cudnn}
    match = matched([pin, *(f"nvidia-{name}-cu12=={version}" for name, version in libraries.items())], host)
    assert match.outcome == outcome
    assert words in str((match.needs.problems, match.needs.unjudged))


@pytest.mark.parametrize(("jaxlib", "outcome"), [("0.10.1", "runs"), ("0.9.0", "refused")])
def test_a_plugin_of_another_release_is_unused(jaxlib: str, outcome: str) -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    libraries = ["nvidia-cublas-cu12==12.9.1.4", "nvidia-cudnn-cu12==9.12.0.46"]
    match = matched([f"jax=={jaxlib}", f"jaxlib=={jaxlib}", "jax-cuda12-plugin==0.10.2", *libraries], host)
    assert match.outcome == outcome
    assert (outcome == "runs") is not any("leaves it unused" in problem.text for problem in match.needs.problems)


def test_a_package_that_needs_cudnn_lacks_it() -> None:
    host = HostProfile("h", "580.95.05", (HostGpu("GPU", "8.0"),), "linux/amd64")
    match = matched(["onnxruntime-gpu==1.26.0", "nvidia-cublas-cu12==12.9.1.4"], host)
    assert match.needs.lacking == ("onnxruntime-gpu 1.26.0",)


@given(st.integers(0, 12), st.integers(0, 12), HOSTS)
def test_an_extension_runs_only_with_its_own_torch(ours: int, theirs: int, host: HostProfile) -> None:
    match = matched([f"torch==2.{ours}.1+cu126", f"torch-scatter==2.1.2+pt2{theirs}cu126"], host)
    found = any("not built for torch" in problem.text for problem in match.needs.problems)
    assert found is (ours != theirs)
    assert not found or match.outcome == "refused"


@given(st.integers(0, 12), st.integers(0, 10), st.booleans(), HOSTS)
def test_a_companion_runs_only_with_its_own_torch(ours: int, theirs: int, audio: bool, host: HostProfile) -> None:
    companion = f"torchaudio==2.{theirs}.1" if audio else f"torchvision==0.{theirs + 15}.1"
    match = matched([f"torch==2.{ours}.1", companion], host)
    found = any("not built for torch" in problem.text for problem in match.needs.problems)
    assert found is (ours != theirs)
    assert not found or match.outcome == "refused"


@pytest.mark.parametrize(
    ("pin", "refused"),
    [("xformers==0.0.29", True), ("vllm==0.6.3", False), ("torchvision==0.14.1", False), ("torchaudio==2.11.0", False)],
)
def test_a_package_that_requires_another_torch(pin: str, refused: bool) -> None:
    problems = matched([pin, "torch==2.4.1"], H100).needs.problems
    assert any("not built for torch 2.4.1" in problem.text for problem in problems) is refused
