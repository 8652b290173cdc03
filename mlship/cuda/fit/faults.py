"""Faults that the pins of a lock have among each other, whatever the host. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from packaging.version import Version

from mlship.cuda.fit.carriers import built_for_torch, local_version, named_cuda, variant_cuda
from mlship.cuda.fit.judge import Stack
from mlship.cuda.tables.lookup import release_of, wheel_index
from mlship.cuda.tables.rows import Release
from mlship.frameworks import framework_table, other_vendor
from mlship.lock.pins import Pin
from mlship.requirement_line import package_version

Fault: TypeAlias = Literal[
    "two-majors", "two-distributions", "two-variants", "wrong-library", "other-vendor", "cpu-only",
    "cuda-in-cpu-project", "nothing-known", "tables-differ",
]  # fmt: skip


@dataclass(frozen=True)
class LockProblem:
    """A fault of a lock that no host can make up for, or a warning."""

    kind: Fault
    text: str
    hint: str


def faults_of(pins: tuple[Pin, ...]) -> Iterator[LockProblem]:
    """Builds for other vendors, distributions that overwrite each other, and builds that do not fit each other."""
    yield from _other_vendors(pins)
    yield from _rivals(pins)
    yield from _mixed_variants(pins)
    yield from _unused_plugins(pins)


def _other_vendors(pins: tuple[Pin, ...]) -> Iterator[LockProblem]:
    found = [(pin, vendor) for pin in pins if (vendor := other_vendor(pin.name, local_version(pin)))]
    for vendor in dict.fromkeys(vendor for _, vendor in found):
        named = ", ".join(f"{pin.name} {pin.version}" for pin, of in found if of == vendor)
        text = f"{named}: for GPUs of {vendor}, but mlship supports GPUs of NVIDIA only"
        yield LockProblem("other-vendor", text, "require the builds for NVIDIA's GPUs and run `mlship lock`")


def _rivals(pins: tuple[Pin, ...]) -> Iterator[LockProblem]:
    names = {pin.name for pin in pins}
    for framework in framework_table().frameworks:
        both = sorted(names & framework.rivals)
        if len(both) > 1:
            text = f"{' and '.join(both)} are both locked; they overwrite each other's files"
            hint = f"require only one of them; a dependency may require `{both[0]}`"
            yield LockProblem("two-distributions", text, hint)


def _mixed_variants(pins: tuple[Pin, ...]) -> Iterator[LockProblem]:
    """PyTorch and its companions are compiled together: builds for two variants do not load each other."""
    indexed = [pin for pin in pins if pin.name in wheel_index().packages or has_own_build(pin)]
    named = ((pin.name, local) for pin in indexed if (local := local_version(pin)))
    variants = {name: local for name, local in named if local == "cpu" or variant_cuda(local)}
    torch = next((pin for pin in pins if pin.name == "torch"), None)
    row = release_of(torch.name, torch.version) if torch else None
    if torch and variants and local_version(torch) is None and isinstance(row, Release) and row.default:
        variants["torch"] = row.default  # as PyPI has it
    others = [pin for pin in pins if torch and (release := required_torch(pin)) and not is_release(torch, release)]
    if len(set(variants.values())) > 1:
        listed = ", ".join(f"{name} +{local}" for name, local in sorted(variants.items()))
        hint = "require no local versions, or the same one for all, and run `mlship lock`"
        yield LockProblem("two-variants", f"the lock contains builds of two variants ({listed})", hint)
    if torch and others:
        text = f"{', '.join(f'{pin.name} {pin.version}' for pin in others)}: not built for torch {torch.version}"
        yield LockProblem("two-variants", text, "require the builds for that release of torch and run `mlship lock`")


def has_own_build(pin: Pin) -> bool:
    """Whether its version says CUDA, although its build on PyPI needs none but that of the package that it follows."""
    row, local = release_of(pin.name, pin.version), local_version(pin)
    bare = isinstance(row, Release) and row.follows and not row.min_capability
    return bool(bare and local and named_cuda(pin)) and pin.name not in wheel_index().packages


def required_torch(pin: Pin) -> str | None:
    """The release of torch, such as "2.8" or ">=2.11", that a package requires or was compiled for."""
    found = release_of(pin.name, pin.version)
    if (built := built_for_torch(pin)) or not isinstance(found, Release):
        return built
    if found.torch_offset is None:
        return found.torch or found.torch_from
    minor = Version(pin.version).minor - found.torch_offset
    return f"2.{minor}" if minor >= 0 else None


def is_release(pin: Pin, release: str) -> bool:
    """Whether it is of a release such as "2.8" or ">=2.11"; extensions for another one do not load."""
    one, other = package_version(pin.version), package_version(release.removeprefix(">="))
    if one is None or other is None:
        return True
    return one.release[:2] == other.release[:2] or (release.startswith(">=") and one > other)


def _unused_plugins(pins: tuple[Pin, ...]) -> Iterator[LockProblem]:
    """JAX leaves a plugin of another release unused, and runs on the CPU."""
    jax = next((pin for pin in pins if pin.name == "jaxlib"), None)
    for pin in pins if jax else ():
        if re.fullmatch(r"jax-cuda\d+-plugin", pin.name) and jax and not is_release(pin, jax.version):
            text = f"{pin.name} {pin.version} is not for jaxlib {jax.version}, which leaves it unused"
            yield LockProblem("two-variants", text, "require `jax[cuda12]` or `jax[cuda13]` and run `mlship lock`")


def differing(stacks: Iterable[Stack]) -> Iterator[LockProblem]:
    """Where a wheel lacks code that the tables list, or has more."""
    for stack in stacks:
        cubins = {one for kernels in stack.measured for one in kernels.architectures}
        found = cubins | {one for kernels in stack.measured for one in kernels.specific}
        listed = {*(stack.architectures or ()), *stack.specific}
        if stack.measured and stack.architectures is not None and not cubins <= listed <= found:
            tables, wheel = (", ".join(map(str, sorted(each))) for each in (listed, found))
            text = f"{stack.name}: the tables list code for {tables}, but its wheel has code for {wheel}"
            hint = "the measurement decides; report the difference to mlship's project"
            yield LockProblem("tables-differ", text, hint)
