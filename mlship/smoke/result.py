"""The result of a smoke test: checks with what was seen and what mends them, and the figures."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import computed_field

from mlship.smoke.gpu_seen import GpuAfter, GpuBefore

TestedOn: TypeAlias = Literal["cpu", "gpu", "simulated gpu"]
Status: TypeAlias = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        id: stable, such as "model.load" or "serve.sigterm".
        title: what is claimed, in a line a stranger understands.
        seen: what was observed, with figures, in one line; lines after it quote the evidence (a traceback, a log).
        remedy: what to do; empty where it passed.
    """

    id: str
    title: str
    status: Status
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Figures:
    """What was measured; None where it was not. Seconds and bytes.

    Attributes:
        private_over_weights: growth of private dirty memory over loading, divided by the weights' bytes: near 0
            where they are mapped, near 1 where they are copied.
        left_out: bytes of tests, headers and archives that the build left out of packages.
        live_s: from container start to the first 200 of the live route; ready_s likewise.
    """

    import_s: float | None = None
    load_s: float | None = None
    first_s: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    runs: int | None = None
    peak_memory: int | None = None
    weights: int | None = None
    private_over_weights: float | None = None
    left_out: int | None = None
    live_s: float | None = None
    ready_s: float | None = None
    answer_s: float | None = None
    exit_s: float | None = None


@dataclass(frozen=True)
class SmokeReport:
    """What was proven of one image, and where.

    Attributes:
        device: what the containers were given: no GPU ("cpu"), GPUs, or what says itself that it simulates them.
        gpus: their names, as NVML has them; `driver` is theirs.
        gpu_seen: all that was seen of them, the driver's codes included.
    """

    image: str
    image_id: str
    device: TestedOn
    checks: tuple[Check, ...]
    figures: Figures
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    gpu_seen: tuple[GpuBefore | GpuAfter, ...] = ()

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property; it stands in the JSON so
    @property
    def passed(self) -> bool:
        """Nothing failed, and something was checked."""
        return bool(self.checks) and self.failure is None

    @computed_field  # type: ignore[prop-decorator]  # likewise
    @property
    def simulated(self) -> bool:
        """It proves nothing about a real GPU."""
        return self.device == "simulated gpu"

    @property
    def failure(self) -> Check | None:
        """The first check that failed; None where none did."""
        return next((check for check in self.checks if check.status == "fail"), None)
