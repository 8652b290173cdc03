"""Settings of the server, each from an environment variable."""

import os
from dataclasses import dataclass
from pathlib import Path

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def number(name: str, default: float) -> float:
    """A setting from 0 up."""
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SystemExit(f"error: {name} must be a number from 0 up, got {text!r}")
    return value


@dataclass(frozen=True)
class Settings:
    """Limits of one process; see `read_settings` for the variables."""

    host: str
    port: int
    model_name: str
    model_version: str
    max_body_bytes: int
    body_seconds: float
    predict_seconds: float
    hang_seconds: float
    max_in_flight: int
    max_batch: int
    unready_seconds: float
    drain_seconds: int


def read_settings() -> Settings:
    """Read the environment. An invalid value ends the process with an error."""
    if "/" in (name := os.environ.get("MODEL_NAME", "model")):
        raise SystemExit(f"error: MODEL_NAME must not contain `/`, because it is part of a path, got {name!r}")
    predict_seconds = number("PREDICT_SECONDS", 30)
    return Settings(
        host=os.environ.get("HOST", "0.0.0.0"),  # a container must listen on all interfaces
        port=int(number("PORT", 8080)),
        model_name=name,
        model_version=os.environ.get("MODEL_VERSION", "unknown"),
        max_body_bytes=int(number("MAX_BODY_BYTES", 8 << 20)),
        body_seconds=number("BODY_SECONDS", 10),  # for a whole body, and for pauses of a client
        predict_seconds=predict_seconds,  # in the queue and in the model
        hang_seconds=number("HANG_SECONDS", max(120.0, 4 * predict_seconds)),  # then it is not live
        max_in_flight=max(1, int(number("MAX_IN_FLIGHT", 128))),  # more are answered with 503
        max_batch=max(1, int(number("MAX_BATCH", 8))),  # rows that run together; 1 turns batching off
        unready_seconds=number("UNREADY_SECONDS", 1),  # unready but serving, so that load balancers notice
        drain_seconds=int(number("DRAIN_SECONDS", 7)),  # then for the requests in flight
    )


def cpus() -> int:
    """The number of CPUs available to this container."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(usable, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no limit: the quota is "max"
        return usable


def cap_threads() -> None:
    """Limit the threads of numeric libraries, which count the CPUs of the host. Call it before they are imported."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(cpus()))
