"""`metadata.json`, which describes a model: what the generated server reads of its inputs and its training."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from mlship import plain
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


class FeatureLimits(_Statistic):
    """The values of an input that requests may have."""

    min: FiniteFloat | None = Field(None, description="Smallest value that is accepted.")
    max: FiniteFloat | None = Field(None, description="Largest value that is accepted.")
    missing: FiniteFloat | Literal["nan"] | None = Field(
        None, description="What the model gets for null: a number, or `nan`. Default: the request is refused."
    )
    indicator: _Name | None = Field(
        None, description="The input that becomes 1 where this one is null, else 0; required if `missing` is a number."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is above `max`")
        if isinstance(self.missing, float) != (self.indicator is not None):
            raise ValueError("a number in `missing` needs an `indicator`, and only a number has one")
        return self


class _Metadata(BaseModel):
    statistics: TrainingStatistics | None = None
    features: dict[_Name, FeatureLimits] | None = None


def statistics_of(repo: Path) -> TrainingStatistics | str | None:
    """The statistics in a repository's metadata.json; None if it has none, or what is wrong with them."""
    found = _part(repo, "statistics")
    return found.statistics if isinstance(found, _Metadata) else found


def features_of(repo: Path) -> dict[str, FeatureLimits] | str | None:
    """The limits of features in a repository's metadata.json; None if it has none, or what is wrong with them."""
    found = _part(repo, "features")
    return found.features if isinstance(found, _Metadata) else found


def _part(repo: Path, key: str) -> _Metadata | str | None:
    """The file with one of its keys only; None if it is another program's."""
    try:
        part = plain.at(plain.json_of(read_regular(repo / METADATA)), key)
    except (OSError, UnicodeDecodeError):
        return None
    if not isinstance(part, dict):
        return None
    if key == "features" and not (part and all(isinstance(one, dict) for one in part.values())):
        return None  # a list of names, or types by name
    try:
        return _Metadata.model_validate({key: part})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(map(str, first["loc"]))
        return f"`{path}`: {re.sub('^Value error, ', '', first['msg'])}"
