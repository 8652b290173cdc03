"""Figures from samples of Prometheus: each is right, or unknown with a reason."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.shadow.figures import MEANINGS, Figure
from mlship.shadow.prometheus import Scraped, Series
from mlship.shadow.scraped import METRICS, scraped_figures

_START = 1.8e9
_DAY = 24 * 3600
_SERVER = {"job": "server", "instance": "a", "model_version": "1"}
_CANDIDATE = {"job": "candidate", "instance": "b", "model_version": "2"}


def counter(labels: Mapping[str, str], total: float, *, before: float | None = 0.0, steps: int = 1441) -> Series:
    """A counter that grows by `total` in a day after the start of the window; it existed before, unless None."""
    grown = [
        (_START + _DAY * step / (steps - 1) + 1, (before or 0) + total * step / (steps - 1)) for step in range(steps)
    ]
    return Series(labels, [*([] if before is None else [(_START - 10, before)]), *grown])


def buckets(labels: Mapping[str, str], cumulative: Mapping[str, float]) -> Iterator[Series]:
    return (counter({**labels, "le": edge}, count, before=7) for edge, count in cumulative.items())


def outcomes(**counts: float) -> list[Series]:
    return [counter({**_SERVER, "outcome": name}, count, before=100) for name, count in counts.items()]


def good(**changes: Sequence[Series]) -> Scraped:
    """A day of a good candidate, with other series for some metrics."""
    ratio = {"1.0": 700.0, "1.2": 1430.0, "10.0": 1440.0, "+Inf": 1440.0}
    spread = {"1.0": 500.0, "2.0": 1000.0, "+Inf": 1440.0}
    output = {"side": "output", "feature": "y"}
    metrics = {
        "serving_shadow_requests_total": outcomes(agree=1440, differ=0, dropped=60),
        "serving_shadow_latency_ratio_bucket": [*buckets(_SERVER, ratio)],
        "serving_shadow_difference_bucket": [*buckets(_SERVER, {"0.0": 1000.0, "0.001": 1440.0, "+Inf": 1440.0})],
        "serving_shadow_memory_bytes": [Series(_SERVER, [(_START + 60, 3e8)])],
        "process_resident_memory_bytes": [
            Series({"job": "server", "instance": "a"}, [(_START + 60, 2e8)]),
            Series({"job": "other", "instance": "c"}, [(_START + 60, 1.0)]),
        ],
        "serving_value_bucket": [one for who in (_SERVER, _CANDIDATE) for one in buckets({**who, **output}, spread)],
    }
    return Scraped(_START, {**metrics, **changes})


def test_a_day_of_a_good_candidate() -> None:
    found = scraped_figures(good())
    assert {name: figure.value for name, figure in found.items()} == {
        "agreement": 1,
        "error_rate": 0,
        "dropped_rate": 0.04,
        "difference": 0.001,
        "psi": 0,
        "p50_ratio": 1.2,
        "p99_ratio": 1.2,
        "memory_ratio": 1.5,
        "rows": pytest.approx(1440),
        "hours": pytest.approx(24, abs=0.02),
    }


def test_a_counter_that_appeared_or_fell_began_at_zero() -> None:
    copies = outcomes(agree=996)
    copies.append(Series({**_SERVER, "outcome": "differ"}, [(_START + 60, 3.0), (_START + 120, 3.0)]))
    copies.append(Series({**_SERVER, "outcome": "error"}, [(_START - 5, 9.0), (_START + 60, 1.0)]))
    found = scraped_figures(good(serving_shadow_requests_total=copies))
    assert found["agreement"].value == pytest.approx(0.996)
    assert found["agreement"].basis == "996 of 1000 copies agree"
    assert found["error_rate"].value == pytest.approx(0.001)


def test_failed_copies_are_slower_than_any() -> None:
    found = scraped_figures(good(serving_shadow_requests_total=outcomes(agree=1440, error=30)))
    assert found["p50_ratio"].value == 1.2
    assert found["p99_ratio"] == Figure(None, "too many copies failed, or took too long, for the 99% percentile")


_OTHER = {**_SERVER, "model_version": "0"}
TWICE = (
    "copies of one server from several Prometheus servers; choose one with `--match`, such as "
    "'prometheus_replica=\"prometheus-0\"'"
)


def placed(**labels: str) -> list[Series]:
    """Copies of a server with these labels, too."""
    return [counter({**one.labels, **labels}, 1440, before=100) for one in outcomes(agree=1440)]


def test_pods_of_one_server_are_counted_together() -> None:
    copies = [*placed(instance="a", pod="a", namespace="ml"), *placed(instance="b", pod="b", namespace="ml")]
    assert scraped_figures(good(serving_shadow_requests_total=copies))["rows"].value == pytest.approx(2880)


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        ([], "no copies: `serving_shadow_requests_total` did not grow in these hours"),
        (outcomes(agree=0), "no copies: `serving_shadow_requests_total` did not grow in these hours"),
        (outcomes(dropped=5), "all copies were dropped"),
        (outcomes(agree=5, odd=1), "unknown outcome `odd`"),
        (
            [*outcomes(agree=1440), counter({**_OTHER, "outcome": "agree"}, 5)],
            "copies of several servers: 0 of job server, 1 of job server",
        ),
        (
            [*placed(namespace="prod"), *placed(namespace="staging")],
            "copies of several servers: 1 of job prod/server, 1 of job staging/server",
        ),
        (
            [*placed(exported_job="wine", job="federate"), *placed(exported_job="beer", job="federate")],
            "copies of several servers: 1 of job beer, 1 of job wine",
        ),
        ([*placed(prometheus_replica="prometheus-0"), *placed(prometheus_replica="prometheus-1")], TWICE),
        ([*placed(replica="a", prometheus="ml/k8s"), *placed(replica="b", prometheus="ml/k8s")], TWICE),
    ],
)
def test_without_the_copies_of_one_server_all_is_unknown(copies: list[Series], why: str) -> None:
    found = scraped_figures(good(serving_shadow_requests_total=copies))
    assert found == dict.fromkeys(MEANINGS, Figure(None, why))


def test_few_copies_prove_nothing() -> None:
    found = scraped_figures(good(serving_shadow_requests_total=outcomes(agree=199)))
    assert found["agreement"] == Figure(None, "199 copies; needs 200")
    assert found["rows"].value == pytest.approx(199)
    found = scraped_figures(good(serving_shadow_requests_total=outcomes(agree=999)))
    assert found["p99_ratio"] == Figure(None, "999 copies; needs 1000")


_OUTPUT = {"side": "output", "feature": "y"}


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        ([], "needs `serving_value_bucket` of one other server, the candidate; found: none"),
        ([*buckets({**_CANDIDATE, **_OUTPUT}, {"1.0": 500, "+Inf": 1440})], "`y`: the two servers have other bins"),
        ([*buckets({**_CANDIDATE, **_OUTPUT}, {"1.0": 9, "2.0": 9, "+Inf": 199})], "`y`: 199 values; needs 200"),
        (
            [*buckets({**_CANDIDATE, "side": "output", "feature": "z"}, {"1.0": 500, "2.0": 500, "+Inf": 1440})],
            "`y`: the two servers have other bins",
        ),
    ],
)
def test_drift_needs_the_outputs_of_both(candidate: list[Series], why: str) -> None:
    ours = buckets({**_SERVER, **_OUTPUT}, {"1.0": 500, "2.0": 1000, "+Inf": 1440})
    assert scraped_figures(good(serving_value_bucket=[*ours, *candidate]))["psi"] == Figure(None, why)


def test_drift_of_outputs_is_found() -> None:
    ours = buckets({**_SERVER, **_OUTPUT}, {"1.0": 720, "2.0": 1080, "+Inf": 1440})
    other = buckets({**_CANDIDATE, **_OUTPUT}, {"1.0": 1080, "2.0": 1260, "+Inf": 1440})
    found = scraped_figures(good(serving_value_bucket=[*ours, *other]))["psi"]
    assert found.value == pytest.approx(0.25 * 0.405465 + 2 * 0.125 * 0.693147, rel=1e-5)


@pytest.mark.parametrize(
    ("differ", "cumulative", "value"),
    [
        (10, {"0.001": 1430.0, "+Inf": 1440.0}, None),  # some answers have no difference
        (10, {"0.001": 1440.0, "+Inf": 1450.0}, None),  # beyond the last edge
        (10, {"0.001": 1440.0, "1.0": 1450.0, "+Inf": 1450.0}, 1.0),
        (0, {"0.001": 0.0, "+Inf": 0.0}, None),
    ],
)
def test_the_largest_difference_is_an_upper_edge(
    differ: int, cumulative: dict[str, float], value: float | None
) -> None:
    copies = outcomes(agree=1440, differ=differ)
    series = {
        "serving_shadow_requests_total": copies,
        "serving_shadow_difference_bucket": [*buckets(_SERVER, cumulative)],
    }
    assert scraped_figures(good(**series))["difference"].value == value


_LABELS = st.dictionaries(
    st.sampled_from(["job", "le", "outcome", "side", "feature", "model_version"]), st.text(max_size=4)
)
_SAMPLES = st.lists(st.tuples(st.floats(_START - 300, _START + 9), st.floats(0, 1e6))).map(sorted)


@given(st.dictionaries(st.sampled_from(METRICS), st.lists(st.builds(Series, _LABELS, _SAMPLES), max_size=4)))
def test_any_samples_give_figures_or_reasons(metrics: dict[str, list[Series]]) -> None:
    found = scraped_figures(Scraped(_START, {**dict.fromkeys(METRICS, ()), **metrics}))
    assert {*found} == {*MEANINGS}
    assert all(figure.basis for figure in found.values())
