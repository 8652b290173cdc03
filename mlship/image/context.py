"""The named build context `packages`: mlship's build programs and, per group, what the lock says. Pure.

Each step mounts only the folder it needs, so that an updated pin reinstalls only its own group.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from mlship.frameworks import gpu_requirements
from mlship.image.plan import BuildPlan
from mlship.lock.check import Lock
from mlship.lock.groups import GROUPS, LockGroup, requirements_of
from mlship.lock.pins import Pin, parse_lock
from mlship.lock.wheelhouse import INSTALLER
from mlship.project.config import Config
from mlship.resources import read_package_file, read_template

PROGRAMS = (
    *("base.py", "get_uv.py", "install.py", "bytecode.py", "check.py", "libraries.py", "trace.py", "request.py"),
    *("apt.sh", "set-dates.sh", "system.sh"),
)
# Models compile against headers and archives of CUDA and the frameworks at run time (NVRTC, Triton, inductor).
_COMPILED_AGAINST: frozenset[LockGroup] = frozenset({"cuda", "framework", "compiled"})


def build_context(plan: BuildPlan, lock: Lock, config: Config, *, tracing: bool = False) -> dict[str, bytes]:
    """The files by path; the same inputs give the same bytes.

    Args:
        tracing: for a trace of the server: nothing is left out, and no more is compiled than it imports.
    """
    texts = {f"programs/{name}": read_package_file(f"image/inside/{name}") for name in PROGRAMS}
    texts["programs/settings.sh"] = read_template("settings.sh")
    texts["programs/gpu.json"] = _json(gpu_requirements())  # libraries.py reads it
    texts["uv/uv.txt"] = read_template("uv.txt")
    texts["check/pins.json"] = _json(
        [{"name": pin.name, "version": pin.version, "marker": pin.marker} for pin in lock.pins]
    )
    texts["trace/options.json"] = _json(_trace_options(plan, config))
    texts["python/modules/README"] = "modules.json is here if the server was traced.\n"
    if lock.record.trace or tracing:
        traced = lock.record.trace.python if lock.record.trace and not tracing else {}
        texts["python/modules/modules.json"] = _json(traced)
    for group in GROUPS:
        texts.update(_of_group(group, plan, lock, tracing=tracing))
    return {path: text.encode() for path, text in sorted(texts.items())}


def wheelhouse(plan: BuildPlan, lock: Lock) -> dict[str, tuple[Pin, ...]]:
    """The pins whose local wheels each step sees, by folder: others must not run it again."""
    groups = {name: layer.group for layer in plan.layers for name in layer.packages}
    installer = parse_lock(read_template("uv.txt"), "uv.txt")
    locked: dict[str, tuple[Pin, ...]] = {
        group: tuple(pin for pin in lock.pins if groups[pin.name] == group)
        for group in GROUPS
        if group in groups.values()
    }
    return {INSTALLER: installer, **locked}


def _of_group(group: LockGroup, plan: BuildPlan, lock: Lock, *, tracing: bool) -> Iterator[tuple[str, str]]:
    layers = {layer.name: list(layer.packages) for layer in plan.layers if layer.group == group}
    if not layers:
        return
    names = [name for packages in layers.values() for name in packages]
    yield f"{group}/install/requirements.txt", requirements_of(lock.pins, names)
    trace = lock.record.trace
    if trace or tracing:
        known = trace.packages if trace and not tracing else {}
        traced = {name: known[name] for name in names if name in known}
        yield f"{group}/modules/modules.json", _json(traced)
    for folder in ("install", "modules"):
        yield f"{group}/{folder}/layers.json", _json(layers)
    kinds = [] if tracing else _kinds(group, traced=trace is not None)
    yield f"{group}/modules/prune.json", _json({"kinds": kinds, "keep": plan.keep})


def _kinds(group: LockGroup, *, traced: bool) -> list[str]:
    """The kinds of files to leave out: tests only if a trace shows that nothing imports them."""
    tests = ["tests"] if traced else []
    return tests if group in _COMPILED_AGAINST else [*tests, "headers", "archives"]


def _trace_options(plan: BuildPlan, config: Config) -> Mapping[str, object]:
    return {
        "command": plan.command,
        "port": plan.port,
        "ready": config.serve.ready,
        "request": asdict(config.asked),
        "health": plan.health.code,
        "seconds": config.serve.startup_seconds + config.smoke.timeout_seconds,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
