"""How a process ended, in words, and what usually mends it. Pure."""

import signal

from mlship.engine.base import ExitState
from mlship.smoke.spec import SmokeSpec
from mlship.units import size


def how_ended(state: ExitState, spec: SmokeSpec) -> str:
    """In words: killed for memory, died of a signal, or with an exit code."""
    if state.out_of_memory:
        return f"killed for memory (limit {size(spec.memory)})"
    if state.code == 137:
        return f"killed (SIGKILL), probably for memory (limit {size(spec.memory)})"
    if 128 < state.code < 128 + signal.NSIG:
        return f"died of {_signal(state.code - 128)}"
    return f"ended with exit code {state.code}"


def for_end(state: ExitState, spec: SmokeSpec) -> str:
    """The usual remedy where a process left nothing but the way it ended."""
    if state.out_of_memory or state.code == 137:
        return (
            f"raise `smoke.memory` in mlship.yaml (now {size(spec.memory)}), and the limit where it will run; "
            "or load less: memory-mapped weights (safetensors) cost no private memory"
        )
    if state.code == 132:
        return "a library uses instructions that this processor lacks: choose a wheel built for older processors"
    if state.code in (134, 139):
        return "a native library crashed: run it with PYTHONFAULTHANDLER=1 to see where, and try another version of it"
    return "its last lines say why; `docker run --rm` the image to try by hand"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
