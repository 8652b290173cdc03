"""What a build needs of the lock, group by group, as files: the named build context `packages`. Pure.

Each step mounts the folder that it needs and no other, so that a pin which moves makes only its own group install anew.
"""

import json
from collections.abc import Iterator, Mapping

from mlship.image.health import health_code
from mlship.image.plan import BuildPlan
from mlship.lock.check import Lock
from mlship.lock.groups import GROUPS, LockGroup, requirements_of
from mlship.lock.pins import Pin
from mlship.project.config import Config
from mlship.resources import read_package_file

PROGRAMS = ("install.py", "bytecode.py", "check.py", "trace.py")
# Headers and archives of CUDA and the frameworks are compiled against when a model runs (NVRTC, Triton, inductor).
_COMPILED_AGAINST: frozenset[LockGroup] = frozenset({"cuda", "framework", "compiled"})


def build_context(plan: BuildPlan, lock: Lock, config: Config) -> dict[str, bytes]:
    """The files by path; the same inputs give the same bytes."""
    texts = {f"programs/{name}": read_package_file(f"image/inside/{name}") for name in PROGRAMS}
    texts["check/pins.json"] = _json(
        [{"name": pin.name, "version": pin.version, "marker": pin.marker} for pin in lock.pins]
    )
    texts["trace/options.json"] = _json(_trace_options(plan, config))
    texts["python/modules/README"] = "modules.json is here where the server was traced.\n"
    if lock.record.trace:
        texts["python/modules/modules.json"] = _json(lock.record.trace.python)
    for group in GROUPS:
        texts.update(_of_group(group, plan, lock))
    return {path: text.encode() for path, text in sorted(texts.items())}


def wheelhouses(plan: BuildPlan, lock: Lock) -> dict[str, tuple[Pin, ...]]:
    """Whose local wheels each group may see, by name of the build context: another's must not make it install anew."""
    groups = {name: layer.group for layer in plan.layers for name in layer.packages}
    return {
        f"wheelhouse-{group}": tuple(pin for pin in lock.pins if groups[pin.name] == group)
        for group in GROUPS
        if group in groups.values()
    }


def _of_group(group: LockGroup, plan: BuildPlan, lock: Lock) -> Iterator[tuple[str, str]]:
    layers = {layer.name: list(layer.packages) for layer in plan.layers if layer.group == group}
    if not layers:
        return
    names = [name for packages in layers.values() for name in packages]
    yield f"{group}/install/requirements.txt", requirements_of(lock.pins, names)
    trace = lock.record.trace
    if trace:
        traced = {name: trace.packages[name] for name in names if name in trace.packages}
        yield f"{group}/modules/modules.json", _json(traced)
    for folder in ("install", "modules"):
        yield f"{group}/{folder}/layers.json", _json(layers)
    yield f"{group}/modules/prune.json", _json({"kinds": _kinds(group, traced=trace is not None), "keep": plan.keep})


def _kinds(group: LockGroup, *, traced: bool) -> list[str]:
    """What is left out: tests only where it was seen that nobody imports them."""
    tests = ["tests"] if traced else []
    return tests if group in _COMPILED_AGAINST else [*tests, "headers", "archives"]


def _trace_options(plan: BuildPlan, config: Config) -> Mapping[str, object]:
    return {
        "command": plan.command,
        "port": plan.port,
        "ready": config.serve.ready,
        "predict": config.serve.predict,
        "sample": config.model.sample,
        "health": health_code(plan.health.url),
        "seconds": config.serve.startup_seconds + config.smoke.timeout_seconds,
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
