"""`metadata.json`, which describes a model: the statistics of its training, for the metrics of the generated server."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from mlship.files import read_regular

METADATA = "metadata.json"
_Name = Annotated[str, StringConstraints(pattern=r"^[^\[\]]*(\[\d+\])?$")]
_Share = Annotated[float, Field(gt=0, le=1)]


class _Statistic(BaseModel):
    """Without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrainingFeature(_Statistic):
    """A number that goes in or out of the model, over the training data."""

    deciles: tuple[FiniteFloat, ...] = Field(
        strict=False, min_length=1, max_length=99,
        description="The nine deciles, increasing; of equal ones, list one and set `shares`.",
    )  # fmt: skip
    shares: tuple[_Share, ...] | None = Field(
        None, strict=False,
        description="Share of the values up to each decile, above the one before, and above the last. Default: equal.",
    )  # fmt: skip
    mean: FiniteFloat = Field(description="Mean of the values.")
    variance: FiniteFloat = Field(ge=0, description="Variance of the values.")
    null_rate: float = Field(0.0, ge=0, le=1, description="Share of rows without a value.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(low >= high for low, high in pairwise(self.deciles)):
            raise ValueError("`deciles` must increase")
        if self.shares is not None and len(self.shares) != len(self.deciles) + 1:
            raise ValueError(f"`shares` must have {len(self.deciles) + 1} numbers, one more than `deciles`")
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError("`shares` must add up to 1")
        return self


class TrainingStatistics(_Statistic):
    """`statistics` of metadata.json."""

    inputs: dict[_Name, TrainingFeature] = Field(
        default_factory=dict,
        description="Inputs by name: `age` of a request, or `rows[2]`, the third column of `rows`.",
    )
    outputs: dict[_Name, TrainingFeature] = Field(
        default_factory=dict, description="Outputs by name, in the same way: `probabilities[1]`."
    )
    probabilities: str | None = Field(
        None, description="The output that has a probability for each class, for the entropy of predictions."
    )


class _Metadata(BaseModel):
    statistics: TrainingStatistics | None = None


def statistics_of(repo: Path) -> TrainingStatistics | str | None:
    """The statistics in a repository's metadata.json, or what is wrong with them."""
    try:
        return read_statistics(read_regular(repo / METADATA))
    except (OSError, UnicodeDecodeError):
        return None


def read_statistics(text: str) -> TrainingStatistics | str | None:
    """The statistics; None if the file has none, or what is wrong with them."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None  # another program's file
    if not isinstance(found, dict) or not isinstance(found.get("statistics"), dict):
        return None
    try:
        return _Metadata.model_validate({"statistics": found["statistics"]}).statistics
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        return f"`{path}`: {re.sub('^Value error, ', '', first['msg'])}"
