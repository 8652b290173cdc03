"""systemd units that are relevant on a GPU host."""

import re
from dataclasses import replace

from mlship.doctor.facts.fact import UNKNOWN, Fact
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host, Service
from mlship.doctor.probes import moments
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.files import below, live, names_in, text_of
from mlship.doctor.probes.kernel import boot_time
from mlship.doctor.probes.tables import probe_tables
from mlship.driver.child import run_child

_UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_SHOW = "Id,LoadState,ActiveState,UnitFileState,ActiveEnterTimestampMonotonic"


def read_services(look: Look) -> Facts:
    """One query to systemd for all units; logs only of failed ones."""
    if not live(look.root):
        return Facts(host=Host(services=_of_folder(look)))
    units = [f"{unit}.service" for unit in probe_tables().units]
    ended = run_child(("systemctl", "show", "--no-pager", f"--property={_SHOW}", *units), 2.5)
    if not ended.ok:
        return Facts()  # no systemd: services are unknown
    booted = boot_time(text_of(below(look.root, "/proc/stat")) or "")
    services = parse_show(ended.stdout, booted)
    return Facts(host=Host(services={unit: _with_log(unit, service) for unit, service in services.items()}))


def parse_show(text: str, booted: Fact[str]) -> dict[str, Fact[Service]]:
    """Units by name; null if systemd has no such unit. Pure."""
    found: dict[str, Fact[Service]] = {}
    for entry in re.split(r"\n\s*\n", text):
        fields = dict(line.partition("=")[::2] for line in entry.strip().splitlines())
        name = fields.get("Id", "").removesuffix(".service")
        if name:
            found[name] = None if fields.get("LoadState") == "not-found" else _service(fields, booted)
    return found


def _service(fields: dict[str, str], booted: Fact[str]) -> Service:
    entered = fields.get("ActiveEnterTimestampMonotonic", "0")
    return Service(
        active=fields.get("ActiveState") or UNKNOWN,
        enabled=fields.get("UnitFileState") or UNKNOWN,
        started_at=moments.moment_after(booted, int(entered) / 1e6) if entered.isdigit() and int(entered) else UNKNOWN,
    )


def _with_log(unit: str, service: Fact[Service]) -> Fact[Service]:
    """Add the version and, if inactive, the last log lines."""
    if not isinstance(service, Service) or unit not in probe_tables().logged_units:
        return service
    version = _version(unit)
    log: Fact[tuple[str, ...]] = UNKNOWN
    if service.active != "active":
        ended = run_child(("journalctl", f"--unit={unit}", "--lines=15", "--no-pager", "--quiet", "--output=cat"), 1.0)
        log = tuple(line[:300] for line in ended.lines) if ended.ok else UNKNOWN
    return replace(service, version=version, log=log)


def _version(unit: str) -> Fact[str]:
    if unit != "nvidia-fabricmanager":
        return UNKNOWN
    ended = run_child(("nv-fabricmanager", "--version"), 1.0)
    found = re.search(r"\d{3}\.\d+(?:\.\d+)?", ended.stdout)
    return found[0] if ended.ok and found else UNKNOWN


def _of_folder(look: Look) -> Fact[dict[str, Fact[Service]]]:
    """Without a running systemd: which units exist."""
    files = {name for folder in _UNIT_FOLDERS for name in names_in(below(look.root, folder)) or ()}
    if not files:
        return UNKNOWN
    return {unit: Service() if f"{unit}.service" in files else None for unit in probe_tables().units}
