"""The lines that the generated server writes to SHADOW_FILE (`templates/init/serving/shadow_log.py`)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from mlship.versioned import adapter, first_error

Leaf = bool | Annotated[int, Field(ge=-(2**64), le=2**64)] | FiniteFloat | str | None
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class ShadowRecord(BaseModel):
    """A copy of a request: the answers of both servers, or the candidate's failure.

    Attributes:
        run: one process of the primary; `offered` and `dropped` count copies since its start.
        time: seconds since 1970.
        difference: the largest difference of two numbers; None if there are none, or other ones.
        primary, candidate: the first values of the outputs, by place.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    time: _Positive
    run: str
    url: str
    primary_version: str
    candidate_version: str | None = None
    outcome: Literal["agree", "differ", "error"]
    error: str = ""
    primary_ms: _Positive
    candidate_ms: _Positive | None = None
    difference: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    primary: Mapping[str, Leaf] = {}
    candidate: Mapping[str, Leaf] = {}
    primary_bytes: _Positive | None = None
    candidate_bytes: _Positive | None = None
    offered: _Count
    dropped: _Count

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = {"candidate_ms", "difference", "primary", "candidate"} & self.model_fields_set
        if self.outcome != "error" and len(given) < 4:
            raise ValueError("an answer lacks one of candidate_ms, difference, primary, candidate")
        if self.dropped >= self.offered:
            raise ValueError("this copy was sent, so fewer copies were dropped than offered")
        return self

    @property
    def answered_ms(self) -> float | None:
        """The candidate's time; None if it failed."""
        return None if self.outcome == "error" else self.candidate_ms


def read_records(lines: Iterable[bytes]) -> Iterator[ShadowRecord | str]:
    """A record for each line, or what is wrong with the line. Empty lines are nothing."""
    kind = adapter(ShadowRecord)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield kind.validate_json(line)
        except ValidationError as error:
            yield f"line {number} is not a record of a shadow: {first_error(error)}"
