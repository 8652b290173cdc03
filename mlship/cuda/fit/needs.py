"""What a lock needs of CUDA, read from its pins; the tables fill in for packages without such pins. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name
from packaging.version import Version

from mlship.cuda.fit.carriers import carries_cuda, kernels_of, linked_cuda, local_version, named_cuda, variant_cuda
from mlship.cuda.fit.faults import LockProblem, differing, faults_of, has_own_build
from mlship.cuda.fit.judge import Stack
from mlship.cuda.tables.lookup import LibraryPin, NotRecorded, library_pin, release_of, tables, wheel_index
from mlship.cuda.tables.rows import Release, Variant
from mlship.cuda.versions import Cuda, CudaSource
from mlship.frameworks import gpu_requirement_for, is_gpu_only
from mlship.lock.pins import Pin
from mlship.requirement_line import package_version
from mlship.units import few

# https://xgboost.readthedocs.io/en/stable/install.html and https://onnxruntime.ai/docs/install/
_CPU_BUILDS = {"onnxruntime-gpu": "onnxruntime", "xgboost": "xgboost-cpu"}
_FIRST_WITH_REQUIREMENTS = Version("1.13.dev0")  # PyPI, metadata of torch 1.12.1 and 1.13.0
_FIRST_ON_ARM = Version("2.11")  # PyPI, metadata of torch 2.6.0 to 2.14.1 for aarch64
_ARM = "linux/arm64"
_RUNTIMES = ("nvidia-cuda-runtime", "cuda-toolkit")


@dataclass(frozen=True)
class Needs:
    """What a lock needs.

    Attributes:
        stacks: what has to run on the hosts.
        unjudged: packages that cannot be judged, each with the reason.
        cuda: the version of the CUDA libraries that the lock brings; None where it brings none.
        way: how CUDA's libraries reach the image; None where nothing in the lock is known to need any.
        lacking: packages whose CUDA libraries no wheel brings; only for the way `image`.
        takes: the CUDA versions of an image that fit these, as (first, below); None where no image is needed.
        cudnn: the major of cuDNN that these need; None for none.
        compiled: locked distributions that nvcc compiles.
        variant: the folder of the wheel index that wheels come from, such as "cu126"; None for PyPI.
    """

    stacks: tuple[Stack, ...]
    unjudged: tuple[tuple[str, str], ...]
    cuda: Cuda | None
    way: CudaSource | None
    lacking: tuple[str, ...]
    takes: tuple[Cuda, Cuda] | None
    cudnn: int | None
    compiled: tuple[str, ...]
    variant: str | None
    problems: tuple[LockProblem, ...]
    warnings: tuple[LockProblem, ...]

    @property
    def compiled_for_unknown(self) -> tuple[str, ...]:
        """Those of which no table says for which GPUs they are compiled."""
        known = {stack.name.partition(" ")[0] for stack in self.stacks if stack.architectures}
        return tuple(name for name in self.compiled if name not in known)

    def with_libraries(self, cuda: Cuda) -> "Needs":
        """The same needs with CUDA's libraries from an image."""
        stacks = tuple(replace(each, cuda=cuda, least_cuda=False) for each in self.stacks)
        return replace(self, cuda=cuda, stacks=stacks)


@dataclass(frozen=True)
class _Package:
    """A locked package that runs on GPUs, and its row in the tables."""

    pin: Pin
    release: Release | NotRecorded
    variant: Variant | None

    @property
    def named(self) -> str:
        return f"{self.pin.name} {self.pin.version}"

    @property
    def unknown(self) -> str:
        """Why the tables do not cover it."""
        if isinstance(self.release, NotRecorded):
            return self.release.reason
        return f"the tables do not list this build of {self.named}"

    @property
    def major(self) -> int | None:
        return self.variant.cuda.major if self.variant and self.variant.cuda and not self.variant.optional else None

    @property
    def cudnn(self) -> Version | None:
        """The oldest cuDNN that it works with."""
        return Version(self.variant.cudnn) if self.variant and self.variant.cudnn else None


def read_needs(pins: tuple[Pin, ...], platform: str, *, gpu: bool, compiled: tuple[str, ...] = ()) -> Needs:
    """Read the pins of a lock.

    Args:
        platform: of the image, such as linux/amd64.
        gpu: the project has `gpu` in mlship.yaml.
        compiled: distributions that mlship.yaml lists under `gpu.compile`.
    """
    libraries = tuple(found for pin in pins if (found := library_pin(pin.name, pin.version)))
    cuda = _runtime(libraries)
    packages = tuple(_packages(pins, cuda, libraries, platform))
    stacks = tuple(stack for package in packages if (stack := _stack(package, cuda, platform)))
    lacking = tuple(package for package in packages if _lacks(package, libraries))
    mistakes = (*faults_of(pins), *_majors(libraries, packages), *_wrong_cudnn(libraries, packages))
    alone = "" if packages else few(pin.library.name for pin in libraries)  # which say nothing of what uses them
    releases = [(pin.name, release_of(pin.name, pin.version)) for pin in pins]
    indexed = [pin for pin in pins if pin.name in wheel_index().packages]
    idle = tuple(_cpu_only(pins, libraries, platform))
    useless = not packages and (not libraries or any(_is_cpu(pin, libraries, platform) for pin in pins))
    return Needs(
        stacks=(*stacks, *_library_stacks(libraries, stacks, platform)),
        unjudged=(
            *((p.named, p.unknown) for p in packages if _stack(p, cuda, platform) is None),
            *_old_libraries(cuda, packages),
            *([("libraries", f"no locked package is known to use CUDA's libraries ({alone})")] if alone else []),
        ),
        cuda=cuda,
        way="image" if lacking else "wheels" if libraries or packages else None,
        lacking=tuple(package.named for package in lacking),
        takes=_takes(lacking),
        cudnn=max((package.cudnn.major for package in lacking if package.cudnn), default=None),
        compiled=tuple(n for n, row in releases if n in compiled or (isinstance(row, Release) and row.compiled)),
        variant=next((local for local in map(local_version, indexed) if variant_cuda(local)), None),
        problems=(*mistakes, *(idle if useless else ())) if gpu else (),
        warnings=(*_warnings(idle, packages, useless=useless), *differing(stacks))
        if gpu
        else tuple(_unwanted(pins, libraries, packages)),
    )


def read_installed(distributions: Mapping[str, str], platform: str) -> Needs:
    """Read installed distributions (name to version) as if they were locked."""
    pins = tuple(Pin(canonicalize_name(name), version, ()) for name, version in sorted(distributions.items()))
    return read_needs(pins, platform, gpu=True)


def _runtime(libraries: tuple[LibraryPin, ...]) -> Cuda | None:
    """CUDA's version, from its runtime or, without one, from other libraries."""
    versions = [(pin.library.name, pin.cuda) for pin in libraries if pin.cuda]
    runtimes = [cuda for name, cuda in versions if name in _RUNTIMES]
    return max(runtimes or [cuda for _, cuda in versions], default=None)


def _packages(
    pins: tuple[Pin, ...], cuda: Cuda | None, libraries: tuple[LibraryPin, ...], platform: str
) -> Iterator[_Package]:
    """The packages with CUDA code of their own; one that follows another is judged by that one, but for its own limits.

    A package that no table lists is one of them where anything about it says CUDA: it is unknown, never left out.
    """
    for pin in pins:
        release = release_of(pin.name, pin.version)
        if _is_cpu(pin, libraries, platform):
            continue
        if isinstance(release, NotRecorded):
            measured = pin.code and library_pin(pin.name, pin.version) is None  # CUDA's own are no limit
            if measured or pin.name in tables().packages.by_package or carries_cuda(pin):
                yield _Package(pin, release, None)
        elif release.min_capability or (not release.variants and (pin.code or has_own_build(pin))):
            yield _Package(pin, release, None)
        elif release.variants and not release.follows:
            variant = _variant(release, pin, cuda)
            if variant or pin.name != "jax" or pin.extras:
                yield _Package(pin, release, variant)


def _variant(release: Release, pin: Pin, cuda: Cuda | None) -> Variant | None:
    """By the local version, then by extras, then by the locked CUDA runtime, then PyPI's default."""
    local = local_version(pin)
    if local:
        named = named_cuda(pin)
        return release.variant(local) or (release.variant(f"cu{named.major}{named.minor}") if named else None)
    asked = next((variant for variant in release.variants if {*variant.extras} & {*pin.extras}), None)
    built = next((variant for variant in release.variants if variant.cuda == cuda and not variant.cuda_below), None)
    return asked or built or release.variant()


def _stack(package: _Package, cuda: Cuda | None, platform: str) -> Stack | None:
    """None where its CUDA is unknown."""
    variant, release, pin = package.variant, package.release, package.pin
    if variant is None or variant.cuda is None:
        named = named_cuda(pin) or linked_cuda(pin)
        known = cuda if cuda and (named is None or named.major == cuda.major) else named
        least = release.min_capability if isinstance(release, Release) else None
        if known is None and least is None:
            return None
        open_ = "" if known else package.unknown  # only the GPUs that its project supports can rule a host out
        known = known or Cuda(0, 0)
        kernels = kernels_of(pin, known.major)
        source = "" if isinstance(release, NotRecorded) else release.source
        stack = Stack(package.named, known, known, platform, source, exact=False, measured=kernels)
        if least and isinstance(release, Release):
            limits = release.compiled_for
            return replace(stack, least_cuda=bool(open_), least=least, unknown=open_, architectures=limits)
        unknown, optional = "" if kernels else package.unknown, not is_gpu_only(pin.name)
        return replace(stack, least_cuda=known is not cuda, unknown=unknown, optional=optional)
    name = f"{pin.name} {pin.version.partition('+')[0]} ({variant.name})"
    own = cuda if cuda and cuda.major == variant.cuda.major else None
    stack = stack_of(name, variant, own or variant.cuda, platform)
    kernels = kernels_of(pin, variant.cuda.major, ptx=stack.architectures is None or stack.ptx is not None)
    return replace(stack, least_cuda=own is None and not stack.exact, measured=kernels)  # its libraries may be newer


def _library_stacks(libraries: tuple[LibraryPin, ...], judged: tuple[Stack, ...], platform: str) -> Iterator[Stack]:
    """CUDA's libraries have a driver floor of their own: one stack a major that no package is judged by."""
    for major in sorted({pin.major for pin in libraries if pin.major} - {stack.cuda.major for stack in judged}):
        newest = max((pin for pin in libraries if pin.major == major), key=lambda pin: pin.cuda or Cuda(major, 0))
        cuda, library = newest.cuda or Cuda(major, 0), newest.library
        named = f"{library.name} {cuda}" if newest.cuda else f"{library.name} for CUDA {major}"
        yield Stack(named, cuda, cuda, platform, library.source, exact=bool(newest.cuda), least_cuda=not newest.cuda)


def stack_of(name: str, variant: Variant, cuda: Cuda, platform: str) -> Stack:
    """The stack of one build of a package, with CUDA libraries of version `cuda`."""
    arm = platform == _ARM
    open_ = arm and variant.aarch64 is None and not variant.at_run_time
    built = variant.cuda or cuda
    unread = f"the tables do not say for which GPUs {name} has code" if variant.unread else ""
    return Stack(
        name=name,
        cuda=cuda,
        built=built,
        platform=platform,
        source=variant.source,
        exact=variant.cuda_below in {None, Cuda(built.major, built.minor + 1)},
        architectures=variant.aarch64 if arm else variant.x86_64,
        specific=() if arm else variant.specific_x86_64,
        ptx=variant.ptx_aarch64 if arm else variant.ptx_x86_64,
        least=variant.min_capability,
        unknown=f"whether {name} has a build for aarch64, and for which GPUs, is unknown" if open_ else unread,
        floor=variant.min_driver,
        supported=variant.supported_driver,
        at_run_time=variant.at_run_time,
        optional=variant.optional,
        uncompressed=variant.uncompressed,
    )


def _lacks(package: _Package, libraries: tuple[LibraryPin, ...]) -> bool:
    """Neither its own wheel nor another pin brings its CUDA libraries."""
    variant, locked = package.variant, {pin.library.name for pin in libraries if pin.major == package.major}
    wanted = {"nvidia-cublas", "nvidia-cudnn"} if package.cudnn else {"nvidia-cublas"}
    return variant is not None and variant.libraries == "system" and not wanted <= locked


def _wrong_cudnn(libraries: tuple[LibraryPin, ...], packages: tuple[_Package, ...]) -> Iterator[LockProblem]:
    """Where the locked cuDNN is of another major than a package needs, or older; torch pins the exact version."""
    for package in packages:
        found = (pin for pin in libraries if pin.library.name == "nvidia-cudnn" and pin.major == package.major)
        for has in (Version(pin.version) for pin in found if package.cudnn):
            least = package.cudnn or has
            if has.major != least.major or (has < least and package.pin.name != "torch"):
                text = f"{package.named} needs cuDNN {least}, but the lock has {has}"
                hint = "allow releases that need the same cuDNN and run `mlship lock`"
                yield LockProblem("wrong-library", text, hint)


def _old_libraries(cuda: Cuda | None, packages: tuple[_Package, ...]) -> Iterator[tuple[str, str]]:
    """Packages that work with any newer CUDA of a major, beside an older one."""
    for package in packages:
        least = package.variant.cuda if package.variant and package.variant.cuda_below else None
        if cuda and least and cuda.major == least.major and cuda < least:
            yield package.named, f"{package.named} needs CUDA {least} or newer, but the lock has {cuda}"


def _takes(lacking: tuple[_Package, ...]) -> tuple[Cuda, Cuda] | None:
    variants = [package.variant for package in lacking if package.variant]
    least = max((v.cuda for v in variants if v.cuda), default=None)
    below = min((v.cuda_below for v in variants if v.cuda_below), default=None)
    return (least, below) if least and below else None


def _is_cpu(pin: Pin, libraries: tuple[LibraryPin, ...], platform: str) -> bool:
    """Since 1.13, torch's CUDA wheels require CUDA's libraries, so a lock without any has the CPU wheel."""
    local = local_version(pin)
    if pin.name != "torch" or local is not None:
        return local == "cpu"
    if platform == _ARM:
        return _is_before(pin, _FIRST_ON_ARM)
    return not (libraries or _is_before(pin, _FIRST_WITH_REQUIREMENTS))


def _is_before(torch: Pin, version: Version) -> bool:
    found = package_version(torch.version)
    return found is None or found < version


def _cpu_only(pins: tuple[Pin, ...], libraries: tuple[LibraryPin, ...], platform: str) -> Iterator[LockProblem]:
    names = {pin.name for pin in pins}
    for pin in pins:
        text, hint = f"{pin.name} {pin.version} runs on the CPU only", ""
        if pin.name == "torch" and platform == _ARM and local_version(pin) is None and _is_before(pin, _FIRST_ON_ARM):
            text = f"{pin.name} {pin.version} is a CPU build: PyPI's wheels for aarch64 have CUDA since {_FIRST_ON_ARM}"
            hint = f"require `torch>={_FIRST_ON_ARM}` and run `mlship lock`"
        elif pin.name == "torch" and _is_cpu(pin, libraries, platform):
            text = f"{pin.name} {pin.version} is a CPU build: no CUDA runtime is locked with it"
            hint = (
                "remove `+cpu` and the index of CPU wheels from the requirements (`pip config list` may show one too)"
                " and run `mlship lock`, which takes torch from the wheel index of the chosen CUDA"
            )
        elif requirement := gpu_requirement_for(pin.name):
            hint = f"require `{requirement}` instead and run `mlship lock`"
        elif pin.name == "jax" and not (names & {"jax-cuda12-plugin", "jax-cuda13-plugin"} or pin.extras):
            text += ": no CUDA plugin is locked with it"
            hint = "require `jax[cuda12]` or `jax[cuda13]` and run `mlship lock`"
        if hint:
            yield LockProblem("cpu-only", text, hint)


def _majors(libraries: tuple[LibraryPin, ...], packages: tuple[_Package, ...]) -> Iterator[LockProblem]:
    """Packages for CUDA 12 and 13 side by side, or libraries of both whose files have the same names.

    A second major of a library with files of other names is of no harm: libnvrtc.so.12 beside libnvrtc.so.13.
    """
    by: dict[int, list[str]] = {}
    for package in packages:
        if package.major:
            by.setdefault(package.major, []).append(package.named)
    apart = len(by) < 2
    for pin in libraries:
        if pin.major and not (apart and by and pin.major not in by and _harmless(pin, libraries)):
            by.setdefault(pin.major, []).append(pin.library.name)
    if len(by) > 1:
        listed = "; ".join(f"CUDA {major}: {', '.join(dict.fromkeys(who))[:120]}" for major, who in sorted(by.items()))
        hint = "limit the packages of the newer CUDA to older releases, or allow newer releases of the others"
        text = f"the lock contains two CUDA majors ({listed})"
        yield LockProblem("two-majors", text, f"{hint}, then run `mlship lock`")


def _harmless(pin: LibraryPin, libraries: tuple[LibraryPin, ...]) -> bool:
    """No library of another major has a file of the same name."""
    others = {soname for other in libraries if other.major != pin.major for soname in other.sonames}
    return bool(pin.sonames) and others.isdisjoint(pin.sonames)


def _warnings(
    idle: tuple[LockProblem, ...], packages: tuple[_Package, ...], *, useless: bool
) -> tuple[LockProblem, ...]:
    if not useless:
        return idle
    if idle or packages:
        return ()
    text = "nothing in the lock is known to use CUDA, so there is nothing to match to the hosts"
    return (LockProblem("nothing-known", text, "remove `gpu` from mlship.yaml if the model runs on the CPU"),)


def _unwanted(
    pins: tuple[Pin, ...], libraries: tuple[LibraryPin, ...], packages: tuple[_Package, ...]
) -> Iterator[LockProblem]:
    """A CPU project that ships CUDA: gigabytes for nothing."""
    known = tables().packages.by_package
    named = [*(p.named for p in packages if p.pin.name in known), *(pin.library.name for pin in libraries)]
    if named:
        bring = "brings" if len(named) == 1 else "bring"
        text = f"{few(named)} {bring} CUDA libraries, up to gigabytes, but mlship.yaml has no `gpu`"
        locked = {pin.name for pin in pins}
        smaller = [f"`{cpu}` instead of `{name}`" for name, cpu in _CPU_BUILDS.items() if name in locked]
        if "torch" in locked or not smaller:
            smaller.append(f"torch with `--extra-index-url {wheel_index().of('cpu')}`")
        hint = f"add `gpu: {{}}` to mlship.yaml, or require CPU builds: {'; '.join(smaller)}"
        yield LockProblem("cuda-in-cpu-project", text, hint)
