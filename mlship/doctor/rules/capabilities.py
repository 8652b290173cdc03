"""Rules about the variables that select which GPUs and driver libraries a container gets."""

import re
from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.container import environment
from mlship.doctor.facts.fact import Fact, each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.queries import line_of, places
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_SUPPORTED = frozenset({"compute", "compat32", "graphics", "utility", "video", "display", "ngx"})
_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@computes("visible-devices-unset-plain-image")
def _shown(facts: Facts) -> Values:
    value = environment(facts).get(_VISIBLE)
    return {"shown": "not set" if value is None else repr(value)}


@computes("driver-capabilities-without-compute")
def _without_compute(facts: Facts) -> Values | None:
    value = (known(facts.container.env) or {}).get(_CAPABILITIES, "")
    has, v2 = _tokens(value), (known(facts.container.nvml.codes) or {}).get("nvmlSystemGetCudaDriverVersion_v2")
    if not has or {"compute", "all"} & set(has):
        return None
    more = ",".join(dict.fromkeys(("compute", *has)))
    return {"value": value, "quoted": repr(value), "more": more, "v2": codes.nvml(v2) if v2 else None}


@computes("driver-capabilities-without-utility")
def _without_utility(facts: Facts) -> Values | None:
    value = environment(facts).get(_CAPABILITIES, "")
    has = _tokens(value)
    if not has or {"utility", "all"} & set(has):
        return None
    return {"bare": value, "value": repr(value), "more": ",".join((*has, "utility"))}


@computes("unsupported-capability-in-env")
def _unsupported(facts: Facts) -> Values | None:
    line, value = line_of(facts, "unsupported capabilities found"), environment(facts).get(_CAPABILITIES, "")
    has, allowed = _tokens(value), _allowed(facts)
    wrong = [name for name in has if name not in {*allowed, "all"}]
    mixed = line is not None and "all" in has and len(has) > 1
    if (not wrong or "all" in has) and not mixed:
        return None
    return {
        "line": line,
        "bare": value,
        "value": repr(value),
        "named": ", ".join(wrong) or "all together with other names",
        "allowed": ", ".join(sorted(allowed)),
        "kept": "all" if "all" in has else ",".join(name for name in has if name in allowed) or "compute,utility",
        "supported": set(wrong) & _SUPPORTED,
    }


def _allowed(facts: Facts) -> frozenset[str]:
    config = known(facts.host.toolkit.config)
    named = known(config.supported_driver_capabilities) if config else None
    return frozenset(_tokens(named)) if named and "all" not in _tokens(named) else _SUPPORTED


@computes("cuda-visible-devices-empty-or-invalid")
def _hidden_by_variable(facts: Facts) -> Iterator[Values]:
    for where, place in places(facts):
        value = (known(place.env) or {}).get(_CUDA_VISIBLE)
        if value is not None and (bad := _bad_entry(place, value)) is not None:
            yield {"where": where, "value": repr(value), "entry": repr(bad) if bad else "an empty entry"}


def _bad_entry(place: Place, value: str) -> str | None:
    """The entry that names no device; None if all name one, if CUDA accepted all, or if that is unknown."""
    code, count = known(place.cuda.init), known(place.cuda.device_count)
    if known(place.nvml.device_count) == 0 or (code and code not in {100, 101}) or (code is None and count is None):
        return None
    tokens = [part.strip() for part in value.split(",")]
    for position, token in enumerate(tokens):
        named = _names_a_device(place, token)
        if named is None and not (code and known(place.cuda.init_without_visible_devices) == 0):
            return None
        if not named:
            hidden = code if position == 0 else (code == 0 and count == position and len(tokens) > position + 1)
            return token if hidden else None
    return None


def _names_a_device(place: Place, token: str) -> bool | None:
    count, devices = known(place.nvml.device_count), each(place.nvml.devices)
    if re.fullmatch(r"[0-9]{1,6}", token):
        return None if count is None else int(token) < count
    if token.startswith(("GPU-", "MIG-")):
        every: tuple[Fact[str], ...] = tuple(device.uuid for device in devices)
        names = [name for name in map(known, every) if name]
        parts = [mig for device in devices for mig in each(device.mig_devices)]
        if token.startswith("MIG-") and parts:
            return any(part.startswith(token) for part in parts)
        if count is None or len(names) < count or token.startswith("MIG-"):
            return None
        return any(name.startswith(token) for name in (*names, *parts))
    return False
