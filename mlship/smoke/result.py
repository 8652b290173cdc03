"""The result of a smoke test: checks with observation and remedy, and the figures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, FiniteFloat, computed_field

from mlship.known_texts import phrase
from mlship.smoke.events import InstalledCode
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore
from mlship.versioned import table_reader

TestedOn: TypeAlias = Literal["cpu", "gpu", "simulated gpu"]
Status: TypeAlias = Literal["pass", "warn", "fail", "skip"]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_EVIDENCE_LINES = 12


@dataclass(frozen=True)
class Check:
    """One checked claim.

    Attributes:
        id: stable, such as "model.load" or "serve.sigterm".
        title: the claim, a noun phrase or a plain statement.
        seen: the observation, with figures, in one line; further lines quote the evidence (a traceback, a log).
        remedy: what to do; empty for a passed check.
    """

    id: str
    title: str
    status: Status
    seen: str
    remedy: str = ""


_texts = table_reader(dict[str, dict[str, str]], "smoke")


def titles() -> Mapping[str, str]:
    """The title of every check, in the order of the report."""
    return {check: texts["title"] for check, texts in _texts().items() if "title" in texts}


def fix(check: str, seen: str, **values: str) -> str:
    """The fix of what a check has seen, from data/smoke.toml; `values` are those that it names."""
    return _texts()[check][seen].format(rebuild=phrase("rebuild"), relock=phrase("relock"), **values)


def passed(check: str, seen: str) -> Check:
    return Check(check, titles()[check], "pass", seen)


def warned(check: str, seen: str, remedy: str) -> Check:
    return Check(check, titles()[check], "warn", seen, remedy)


def failed(check: str, seen: str, remedy: str, evidence: Iterable[str] = ()) -> Check:
    """A failed check; the last lines of the evidence follow `seen`."""
    return Check(check, titles()[check], "fail", "\n".join((seen, *list(evidence)[-_EVIDENCE_LINES:])), remedy)


def skipped(check: str, why: str) -> Check:
    return Check(check, titles()[check], "skip", why)


@dataclass(frozen=True)
class Figures:
    """What was measured; None if it was not. Seconds and bytes.

    Attributes:
        private_over_weights: growth of private dirty memory during loading, divided by the size of the weights: near 0
            if they are mapped, near 1 if they are copied.
        left_out: bytes of tests, headers and archives that the build left out of packages.
        live_s: from container start to the first 200 of the live route; ready_s likewise.
    """

    import_s: _Seconds | None = None
    load_s: _Seconds | None = None
    first_s: _Seconds | None = None
    p50_s: _Seconds | None = None
    p99_s: _Seconds | None = None
    runs: _Count | None = None
    peak_memory: _Count | None = None
    weights: _Count | None = None
    private_over_weights: FiniteFloat | None = None
    left_out: _Count | None = None
    live_s: _Seconds | None = None
    ready_s: _Seconds | None = None
    answer_s: _Seconds | None = None
    exit_s: _Seconds | None = None


@dataclass(frozen=True)
class SmokeReport:
    """What was proven about one image, and where.

    Attributes:
        device: what the containers were given: no GPU ("cpu"), GPUs, or simulated ones that say so.
        gpus: names as reported by NVML; `driver` is their driver's version.
        gpu_seen: everything seen of the GPUs, the driver's codes included.
        code: the device code of the installed packages; None if it was not read.
    """

    image: str
    image_id: str
    device: TestedOn
    checks: tuple[Check, ...]
    figures: Figures
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    gpu_seen: tuple[GpuBefore | GpuAfter, ...] = ()
    code: InstalledCode | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorated properties
    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return bool(self.checks) and self.failure is None

    @computed_field  # type: ignore[prop-decorator]  # likewise
    @property
    def simulated(self) -> bool:
        """Whether the test proves nothing about a real GPU."""
        return self.device == "simulated gpu"

    @property
    def failure(self) -> Check | None:
        return next((check for check in self.checks if check.status == "fail"), None)
