"""The reports of `mlship hosts`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlship.console import clean, out, out_lines, warn
from mlship.cuda.hosts.files import Planned
from mlship.cuda.hosts.fleet import Bound, FleetCuda
from mlship.cuda.hosts.kubernetes import Nodes
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import support_of
from mlship.cuda.versions import Driver
from mlship.units import columns, count_of, few, size

_NAMED = 5  # nodes or hosts in one line


def show_fleet(fleet: Fleet, cuda: FleetCuda) -> None:
    """Print the hosts as a table, and the CUDA versions that run on all of them."""
    out_lines(_lines(fleet, cuda))


def host_line(host: HostProfile) -> str:
    return f"driver {host.driver}, {', '.join(map(_gpu, host.gpus))}"


def _lines(fleet: Fleet, cuda: FleetCuda) -> Iterator[str]:
    yield f"{count_of(len(fleet.hosts), 'kind')} of host, from {fleet.origin}"
    yield ""
    rows = [("host", "driver", "CUDA", "GPUs")]
    for host, offered in zip(fleet.hosts, cuda.hosts, strict=True):
        first, *more = [_gpu(gpu) for gpu in host.gpus]
        rows.append((clean(host.name), clean(host.driver), offered.cuda or "unknown", first))
        rows.extend(("", "", "", line) for line in more)
    yield from columns(rows)
    yield ""
    yield from (f"  {line}" for host in fleet.hosts for line in _remarks(host))
    yield from (f"  {each.host}: {each.why}" for each in cuda.unknown)
    yield from _excluded(cuda)
    yield from _together(cuda)


def _remarks(host: HostProfile) -> Iterator[str]:
    if host.simulated:
        yield f"{host.name}: simulated, not a real GPU"
    yield from (f"{host.name}: {note}" for note in host.notes)
    driver = Driver.parse(host.driver)
    support = support_of(driver) if driver else None
    if support:
        yield f"{host.name}: {support[0]}"


def _excluded(cuda: FleetCuda) -> Iterator[str]:
    """GPUs that newer CUDA versions no longer support, whatever the driver."""
    for bound in cuda.bounds:
        if bound.side == "most" and bound.by == "gpu":
            yield f"  {bound.host}: CUDA {bound.cuda} is the last for {bound.because}, whatever the driver"


def _together(cuda: FleetCuda) -> Iterator[str]:
    yield from (f"  {each.host}: no CUDA runs: {each.why}" for each in cuda.blocked)
    if not cuda.known:
        yield "The CUDA that runs on all hosts is unknown."
        return
    if not cuda.outright and not cuda.by_minor_version:
        yield "No CUDA runs on all hosts; they need more than one image:"
    elif cuda.outright:
        yield f"CUDA that every driver supports: {_span(cuda.outright)}"
    else:
        yield "No CUDA is supported by every driver and supports every GPU:"
    if cuda.most:
        yield f"  {cuda.most} is the newest for {_hosts(cuda.deciding('most'))}"
    if cuda.least:
        yield f"  {cuda.least} is the oldest for {_hosts(cuda.deciding('least'))}"
    yield from _by_minor(cuda)


def _by_minor(cuda: FleetCuda) -> Iterator[str]:
    if not cuda.by_minor_version:
        return
    also = "also " * bool(cuda.outright)
    yield f"CUDA that {also}runs everywhere through minor-version compatibility: {_span(cuda.by_minor_version)}"
    yield "  with kernels compiled for these GPUs; drivers do not compile PTX of a newer CUDA than their own"
    yield from (f"  {each.host}: {each.why}" for each in cuda.doubtful)


def _span(versions: Sequence[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def _hosts(bounds: Sequence[Bound]) -> str:
    return few((f"{bound.host} ({bound.because})" for bound in bounds), _NAMED)


def show_import(nodes: Nodes, planned: Sequence[Planned], old: Sequence[Path]) -> None:
    """Print the nodes behind each file; warn about files that no longer match any node."""
    rows = [("file", "", "nodes", "driver", "GPUs of a node")]
    rows.extend(
        (str(each.path), each.state, str(len(pool.nodes)), pool.host.driver, _gpu(pool.host.gpus[0]))
        for each, pool in zip(planned, nodes.pools, strict=True)
    )
    out_lines(columns(rows))
    out_lines(f"{pool.host.name}: {note}" for pool in nodes.pools for note in pool.host.notes)
    if nodes.without_gpu:
        vendors = ", ".join(f"{count} with {vendor}'s, which mlship does not support" for vendor, count in nodes.others)
        out(f"{count_of(nodes.without_gpu, 'node')} without an NVIDIA GPU" + (f" ({vendors})" if vendors else ""))
    for state in ("cordoned", "not ready"):
        away = [name for name, why in nodes.away if why == state]
        if away:
            out(f"{state}, and included like any other node: {few(away, _NAMED)}")
    for path in old:
        warn(f"`{path}` is from an earlier import and no longer matches any node; remove it with `rm {path}`")


def warn_of_nodes(nodes: Nodes) -> None:
    """Name the GPU nodes that their labels do not describe, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in nodes.unlabelled:
        reasons.setdefault(each.why, []).append(each.node)
    for why, named in reasons.items():
        warn(f"skipped {few(named, _NAMED)}: NVIDIA GPU, but {why}")
    if reasons:
        warn(
            "to include the skipped nodes, install GPU Feature Discovery (in the device plugin's Helm chart: "
            "`--set gfd.enabled=true`), or run `mlship hosts record hosts/NAME.json` on one"
        )


def _gpu(gpu: HostGpu) -> str:
    known = [gpu.capability or "compute capability unknown"]
    if gpu.memory is not None:
        known.append(size(gpu.memory))
    if gpu.mig:
        known.append("MIG")
    return clean(f"{gpu.count} x {gpu.name} ({', '.join(known)})")
