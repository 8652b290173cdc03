"""Whether the installed packages have code for the GPUs of the hosts, read from their libraries. Pure."""

import re
from collections.abc import Iterable, Iterator

from mlship.cuda.tables.lookup import architecture_of
from mlship.cuda.versions import Capability
from mlship.driver.device_code import DeviceCode
from mlship.smoke.events import InstalledCode, PackageCode
from mlship.smoke.result import Check, failed, fix, passed, skipped, warned
from mlship.smoke.seen import Observed

_CAPABILITY = re.compile(r"([0-9]{1,2})\.([0-9])", re.ASCII)


def gpu_code(observed: Observed) -> tuple[Check, ...]:
    """The device code of installed packages against the hosts' GPUs, or the tested GPU without hosts.

    A package without code for a GPU fails the test if the model's process has loaded it; otherwise it is a warning.
    """
    if not observed.spec.gpu and observed.device == "cpu":
        return ()
    code, wanted = observed.model.installed_code, _capabilities(observed)
    packages = code.packages if code and wanted else ()
    lacking = {package: found for package in packages if (found := _judged(package, wanted, False))}
    if lacking:
        judge = failed if any(package.loaded for package in lacking) else warned
        return (judge("gpu.code", "; ".join(_described(lacking)), fix("gpu.code", "lacking")),)
    if why := _unknown(code, wanted):
        return (skipped("gpu.code", why),)
    names = ", ".join(f"{package.name} {package.version}" for package in packages)
    return (passed("gpu.code", f"{names}: for {_listed(wanted)}{_by_ptx(packages, wanted)}"),)


def _unknown(code: InstalledCode | None, wanted: tuple[Capability, ...]) -> str:
    """Why it is unknown whether every package has code; empty if every one has."""
    if code is None:
        return "not reached"
    if not wanted:
        return "the compute capability of the hosts' GPUs is not known"
    if code.unread:
        return f"the device code of {code.unread} libraries could not be read"
    if not code.packages:
        return "no installed package has device code; it may be compiled at run time"
    doubtful = ((f"{one.name} {one.version}", _judged(one, wanted, None)) for one in code.packages)
    texts = (f"{name}, built for older GPUs, runs on {_listed(found)}" for name, found in doubtful if found)
    return "; ".join(f"no document says that {text}" for text in texts)


def _capabilities(observed: Observed) -> tuple[Capability, ...]:
    """Of the hosts that the image is built for, else of the GPUs that it was tested on."""
    before = observed.model.gpu_before
    tested = [device.compute_capability for device in before.nvml.devices] if before else []
    texts = observed.spec.capabilities or tuple(text for text in tested if text)
    found = [_CAPABILITY.fullmatch(text) for text in texts]  # of a label, which may hold anything
    return tuple(sorted({Capability(int(one[1]), int(one[2])) for one in found if one})) if all(found) else ()


def _judged(package: PackageCode, wanted: Iterable[Capability], verdict: bool | None) -> tuple[Capability, ...]:
    """The GPUs for which a package has code (True), has none (False) or may have some (None)."""
    found = {one: [_serves(part, one) for part in package.code] for one in wanted}
    return tuple(one for one, each in found.items() if next((v for v in (True, None) if v in each), False) is verdict)


def _serves(part: DeviceCode, capability: Capability) -> bool | None:
    """A driver can compile PTX for the same and newer GPUs, unless the PTX is of a newer CUDA than its own."""
    runs = _runs(part, capability)
    return any(ptx <= capability for ptx in part.ptx) if runs is False else runs


def _runs(part: DeviceCode, capability: Capability) -> bool | None:
    known = architecture_of(capability)
    return capability in part.specific or capability.runs(part.cubins, apart=known is None or known.apart)


def _by_ptx(packages: Iterable[PackageCode], wanted: Iterable[Capability]) -> str:
    """What the driver has to compile when the package is first used; it may be unable to."""
    lines = [
        f"{package.name} for {_listed(found)}"
        for package in packages
        if (found := [one for one in wanted if not any(_runs(part, one) for part in package.code)])
    ]
    return f"; as PTX, which the driver must compile: {', '.join(lines)}" if lines else ""


def _described(lacking: dict[PackageCode, tuple[Capability, ...]]) -> Iterator[str]:
    for package, missing in lacking.items():
        has = {one for part in package.code for one in (*part.cubins, *part.specific)}
        yield f"{package.name} {package.version} has no code for {_listed(missing)}, only for {_listed(sorted(has))}"


def _listed(capabilities: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{major}.{minor}" for major, minor in capabilities)
