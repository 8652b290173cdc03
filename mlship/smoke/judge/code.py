"""Whether the installed packages have code for the GPUs of the hosts, read from their libraries. Pure."""

import re
from collections.abc import Iterable, Iterator

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
    lacking = {package: missing for package in packages if (missing := _missing(package, wanted))}
    if lacking:
        judge = failed if any(package.loaded for package in lacking) else warned
        return (judge("gpu.code", "; ".join(_described(lacking)), fix("gpu.code", "lacking")),)
    if code is None or not wanted or code.unread or not packages:
        return (skipped("gpu.code", _unknown(code, wanted)),)
    names = ", ".join(f"{package.name} {package.version}" for package in packages)
    return (passed("gpu.code", f"{names}: for {_listed(wanted)}{_by_ptx(packages, wanted)}"),)


def _unknown(code: InstalledCode | None, wanted: tuple[tuple[int, int], ...]) -> str:
    if code is None:
        return "not reached"
    if not wanted:
        return "the compute capability of the hosts' GPUs is not known"
    if code.unread:
        return f"the device code of {code.unread} libraries could not be read"
    return "no installed package has device code; it may be compiled at run time"


def _capabilities(observed: Observed) -> tuple[tuple[int, int], ...]:
    """Of the hosts that the image is built for, else of the GPUs that it was tested on."""
    before = observed.model.gpu_before
    tested = [device.compute_capability for device in before.nvml.devices] if before else []
    texts = observed.spec.capabilities or tuple(text for text in tested if text)
    found = [_CAPABILITY.fullmatch(text) for text in texts]  # of a label, which may hold anything
    return tuple(sorted({(int(one[1]), int(one[2])) for one in found if one})) if all(found) else ()


def _missing(package: PackageCode, wanted: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(one for one in wanted if not any(_serves(part, one) for part in package.code))


def _serves(part: DeviceCode, capability: tuple[int, int]) -> bool:
    """A driver can compile PTX for the same and newer GPUs, unless the PTX is of a newer CUDA than its own."""
    return _runs(part, capability) or any(ptx <= capability for ptx in part.ptx)


def _runs(part: DeviceCode, capability: tuple[int, int]) -> bool:
    """Machine code runs on its own major and newer minors."""
    major, minor = capability
    return capability in part.specific or any(has == major and at_least <= minor for has, at_least in part.cubins)


def _by_ptx(packages: Iterable[PackageCode], wanted: Iterable[tuple[int, int]]) -> str:
    """What the driver has to compile when the package is first used; it may be unable to."""
    lines = [
        f"{package.name} for {_listed(found)}"
        for package in packages
        if (found := [one for one in wanted if not any(_runs(part, one) for part in package.code)])
    ]
    return f"; as PTX, which the driver must compile: {', '.join(lines)}" if lines else ""


def _described(lacking: dict[PackageCode, tuple[tuple[int, int], ...]]) -> Iterator[str]:
    for package, missing in lacking.items():
        has = {one for part in package.code for one in (*part.cubins, *part.specific)}
        yield f"{package.name} {package.version} has no code for {_listed(missing)}, only for {_listed(sorted(has))}"


def _listed(capabilities: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{major}.{minor}" for major, minor in capabilities)
