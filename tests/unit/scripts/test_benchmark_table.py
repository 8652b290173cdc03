import json

import pytest
from _bench_table import Results, as_json, best, human, judge, same, text

MB = 1_000_000


def ours(**values: float) -> Results:
    return contestant("mlship", "ours", **values)


def contestant(name: str, kind: str, **values: float) -> Results:
    return Results(name, kind, values={measure: [value] for measure, value in values.items()})


def verdicts(*results: Results, weights: int = 20 * MB) -> dict[tuple[str, str], tuple[str, str]]:
    return {(one.what, one.bound): (one.found, one.verdict) for one in judge(results, weights)}


def test_results_report_the_median_of_the_rounds() -> None:
    results = Results("mlship", "ours")
    for value in (9.0, 1.0, 2.0):
        results.add("cold_s", value)
    assert results.median("cold_s") == 2.0
    assert results.as_json()["measures"] == {"cold_s": {"median": 2.0, "min": 1.0, "max": 9.0, "runs": 3}}


def test_best_peer_is_the_smallest_and_never_a_control() -> None:
    results = [
        contestant("BentoML", "peer", cold_s=60),
        contestant("LitServe", "peer", cold_s=40),
        contestant("hand", "control", cold_s=1),
    ]
    assert best(results, "peers", "cold_s") == ("LitServe", 40)
    assert best(results, "hand", "cold_s") == ("hand", 1)
    assert best(results, "peers", "edit_s") is None


@pytest.mark.parametrize(("seconds", "verdict"), [(14.0, "met"), (14.1, "missed")])
def test_a_ratio_is_compared_with_its_bound(seconds: float, verdict: str) -> None:
    found = verdicts(ours(cold_s=seconds), contestant("LitServe", "peer", cold_s=40))
    assert found["cold build", "<= 0.35 of the best peer"][1] == verdict
    assert found["light bump", "<= 0.06 of the best peer"] == ("", "not measured")


@pytest.mark.parametrize(("seconds", "verdict"), [(1.25, "met"), (1.35, "missed")])
def test_a_difference_is_compared_with_its_bound(seconds: float, verdict: str) -> None:
    found = verdicts(ours(edit_s=seconds), contestant("hand", "control", edit_s=0.5))
    assert found["source edit", "<= 0.80 s over hand"][1] == verdict
    assert verdicts(ours(edit_s=seconds))["source edit", "<= 0.80 s over hand"] == ("", "not measured")


def test_nothing_is_judged_without_mlship() -> None:
    assert {verdict for _, verdict in verdicts(contestant("BentoML", "peer", cold_s=60)).values()} == {"not measured"}


@pytest.mark.parametrize(
    ("pushed", "largest", "verdict"),
    [
        (35.4 * MB, 35.35 * MB, "met"),  # one wheel and the configuration
        (165 * MB, 144 * MB, "missed"),  # a layer of all packages
        (60 * MB, 35 * MB, "missed"),  # that wheel and others
    ],
)
def test_heavy_bump_pushes_one_wheel(pushed: float, largest: float, verdict: str) -> None:
    results = ours(heavy_pushed=pushed, heavy_layers=2, cold_pushed=167 * MB)
    results.largest_heavy_layer = largest
    assert verdicts(results)["heavy bump, bytes pushed", "only the wheel's layer"][1] == verdict


@pytest.mark.parametrize(("pushed", "verdict"), [(20.05 * MB, "met"), (21 * MB, "missed")])
def test_new_weights_push_only_the_weights(pushed: float, verdict: str) -> None:
    assert verdicts(ours(weights_pushed=pushed))["new weights, bytes pushed", "only the weights"][1] == verdict


def test_same_needs_two_digests() -> None:
    assert same([]) is None
    assert same(["a"]) is None
    assert same(["a", "a"]) is True
    assert same(["a", "b"]) is False


def test_layers_that_differ_between_cold_builds() -> None:
    results = Results("mlship", "ours", layers=[["base", "deps", "code"], ["base", "other", "code"]])
    assert results.layers_that_differ() == [1]


def test_same_digest_with_reproducible_meets_the_target() -> None:
    results = ours(cold_s=1)
    results.digests, results.digests_reproducible = ["a", "b"], ["c", "c"]
    key = ("same inputs, another folder, no cache", "same digest")
    assert verdicts(results)[key] == ("different digest; same with `--reproducible`", "met")


def test_a_failed_contestant_shows_its_reason_and_no_number() -> None:
    failed = Results("MLflow", "peer", failure="no such image")
    report = text([ours(cold_s=2), failed], judge([ours(cold_s=2), failed], MB), {"cores": 2})
    row = next(line for line in report.splitlines() if line.startswith("cold build "))
    assert row.split() == ["cold", "build", "2.00", "s", "-"]
    assert "no such image" in report


def test_json_has_facts_contestants_and_targets() -> None:
    results = [ours(cold_s=2, edit_pushed=9000)]
    found = json.loads(json.dumps(as_json(results, judge(results, MB), {"cores": 2})))
    assert set(found) == {"facts", "contestants", "targets"}
    assert found["contestants"][0]["failure"] is None
    assert {"what": "source edit, bytes pushed", "bound": "<= 60.0 kB", "found": "9.0 kB", "verdict": "met"} in found[
        "targets"
    ]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(1.234, "s", "1.23 s"), (77.06, "s", "77.1 s"), (9000, "B", "9.0 kB"), (12, "B", "12 B"), (3, "", "3")],
)
def test_human(value: float, unit: str, expected: str) -> None:
    assert human(value, unit) == expected
