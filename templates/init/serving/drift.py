"""Metrics of what goes in and out of the model, beside the statistics of its training in `metadata.json`."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from math import log
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.batching import Run

METADATA = Path(__file__).resolve().parents[1] / "metadata.json"
_LABELS = ("model_version", "side", "feature")
_SUMS = {"positive": "Sum above 0.", "negative": "-Sum below 0.", "squares": "Sum of squares.", "missing": "Nulls."}
_NUMBER = (int, float)  # a tuple is checked in half the time of `int | float`
_TRAINED = ("mean", "variance", "null_rate")
_TENTHS = [tenth / 10 for tenth in range(1, 11)]
ENTROPY = Histogram("serving_prediction_entropy", "From 0, certain, to 1.", _LABELS[:1], buckets=_TENTHS)


class Feature(msgspec.Struct):
    """A number in training: edges of bins, the share of values in each (default: equal), and the share of nulls."""

    deciles: list[float]
    mean: float
    variance: float
    null_rate: float = 0.0
    shares: list[float] = []


class Statistics(msgspec.Struct):
    """Features by name: `age`, or `rows[2]` for a column; and the output that has a probability for each class."""

    inputs: dict[str, Feature] = {}
    outputs: dict[str, Feature] = {}
    probabilities: str | None = None


class Seen:
    """The values of a feature since the start."""

    def __init__(self, labels: tuple[str, str, str], training: Feature) -> None:
        self.labels, self.training = labels, training
        self._edges = [edge + 1e-7 * abs(edge) for edge in training.deciles]  # for values that float32 rounded up
        self.counts = [0] * (len(training.deciles) + 1)
        self.positive = self.negative = self.squares = 0.0
        self.missing = 0

    def add(self, values: Sequence[object]) -> None:
        """Count numbers; null, NaN and infinity are missing."""
        for value in values:
            if isinstance(value, _NUMBER) and -1e150 < value < 1e150:
                self.counts[bisect_left(self._edges, value)] += 1
                self.positive += value if value > 0 else 0
                self.negative -= value if value < 0 else 0
                self.squares += value * value
            else:
                self.missing += 1


class Drift(Collector):
    """The metrics of one version of the model. PSI is plain PromQL: see `monitoring/alerts.yml`."""

    def __init__(self, version: str) -> None:
        statistics = msgspec.convert(json.loads(METADATA.read_bytes())["statistics"], Statistics)
        self._sides = {
            side: [(*_parsed(name), Seen((version, side, name), training)) for name, training in features.items()]
            for side, features in (("input", statistics.inputs), ("output", statistics.outputs))
        }
        self._probabilities = statistics.probabilities
        self._entropy = ENTROPY.labels(version)
        REGISTRY.register(self)

    def watch(self, run: Run) -> Run:
        """Run the model, and count its inputs and outputs in the same thread."""

        def watched(payloads: Sequence[Any]) -> Sequence[object]:
            outputs = run(payloads)
            for payload, output in zip(payloads, outputs, strict=False):
                self._count("input", payload)
                self._count("output", output)
                if self._probabilities is not None:
                    for row in _rows(output, self._probabilities):
                        _observe_entropy(row, self._entropy)
            return outputs

        return watched

    def _count(self, side: str, value: object) -> None:
        rows = {name: [*_rows(value, name)] for name in {name for name, *_ in self._sides[side]}}
        for name, column, seen in self._sides[side]:
            for row in rows[name]:
                seen.add(row if column is None else row[column : column + 1] or (None,))

    def collect(self) -> Iterator[Metric]:
        """The metrics, for `GET /metrics`."""
        values = HistogramMetricFamily("serving_value", "Inputs and outputs, by training deciles.", labels=_LABELS)
        sums = [CounterMetricFamily(f"serving_value_{name}", text, labels=_LABELS) for name, text in _SUMS.items()]
        others = [GaugeMetricFamily(f"serving_training_{name}", "In training.", labels=_LABELS) for name in _TRAINED]
        shares = GaugeMetricFamily("serving_training_share", "Share of a bin in training.", labels=(*_LABELS, "bin"))
        bins = GaugeMetricFamily("serving_training_bin", "Buckets of a bin.", labels=(*_LABELS, "bin", "le"))
        for seen in (seen for features in self._sides.values() for *_, seen in features):
            edges = [*map(floatToGoString, seen.training.deciles), "+Inf"]
            values.add_metric(seen.labels, [*zip(edges, accumulate(seen.counts), strict=True)], None)
            for name, counter in zip(_SUMS, sums, strict=True):
                counter.add_metric(seen.labels, getattr(seen, name))
            for name, gauge in zip(_TRAINED, others, strict=True):
                gauge.add_metric(seen.labels, getattr(seen.training, name))
            for number, share in enumerate(seen.training.shares or [1 / len(edges)] * len(edges)):
                shares.add_metric((*seen.labels, str(number)), share)
                bins.add_metric((*seen.labels, str(number), edges[number]), 1)
                if number:  # buckets are cumulative
                    bins.add_metric((*seen.labels, str(number), edges[number - 1]), -1)
        yield from (values, *sums, *others, shares, bins)


def _parsed(name: str) -> tuple[str, int | None]:
    name, _, column = name.removesuffix("]").partition("[")
    return name, int(column) if column else None


def _rows(value: object, name: str) -> Iterator[Sequence[Any]]:
    """The last axis of what has the name, or of the value itself if the name is empty."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if name and isinstance(value, Mapping):
        yield from _rows(value.get(name), "")
    elif name and isinstance(value, list) and value and isinstance(value[0], Mapping):  # such as labels with scores
        yield from _rows([one.get(name) for one in value], "")
    elif isinstance(value, list) and value and isinstance(value[0], list):
        for one in value:
            yield from _rows(one, name)
    else:
        yield value if isinstance(value, list) else (value,)


def _observe_entropy(row: Sequence[Any], entropy: Histogram) -> None:
    if shares := [share for share in row if isinstance(share, int | float) and share > 0]:
        entropy.observe(-sum(share * log(share) for share in shares) / log(max(2, len(row))))
