"""The drift metrics of the generated server: inputs and outputs beside the statistics of the training."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.debian_files import debian_files
from tests.helpers.generated_server import initialised, run_code, served
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes

Samples = dict[tuple[str, ...], float]


def training(values: NDArray[np.float32]) -> dict[str, object]:
    """The statistics of a feature."""
    deciles = np.quantile(values, np.linspace(0.1, 0.9, 9)).tolist()
    return {"deciles": deciles, "mean": float(values.mean()), "variance": float(values.var())}


def samples(page: str, *labels: str) -> Samples:
    """The samples of a metrics page, by name and the values of some labels."""
    every = (one for family in text_string_to_metric_families(page) for one in family.samples)
    return {(one.name, *(one.labels.get(label, "") for label in labels)): one.value for one in every}


def test_arrays_are_counted_as_numpy_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    trained = random.normal(size=(500, 4)).astype(np.float32)
    statistics: dict[str, dict[str, dict[str, object]]] = {
        "inputs": {f"x[{column}]": training(trained[:, column]) for column in range(4)},
        "outputs": {"y": training(trained.sum(1))},
    }
    files: dict[str, str | bytes] = {
        "model.onnx": onnx_bytes(),
        "metadata.json": json.dumps({"statistics": statistics}),
    }
    repo = initialised(tmp_path, files)
    assert "source: [metadata.json, serving]\n" in (repo / "mlship.yaml").read_text()
    rows = np.concatenate([trained[:30], random.normal(1, 2, (30, 4)).astype(np.float32)])
    with served(repo, MODEL_VERSION="7") as server:
        server.wait("/health/ready", 200)
        for part in np.split(rows, 6):
            assert server.ask("/predict", json.dumps({"x": part.tolist()}).encode())[0] == 200
        assert server.ask("/predict", b'{"x": [[1, 2, 3]]}')[0] == 422  # not counted, like the warm-up
        found = samples(server.ask("/metrics")[1], "model_version", "side", "feature", "le", "bin")
    columns = {("input", f"x[{number}]"): rows[:, number] for number in range(4)}
    for (side, name), values in (columns | {("output", "y"): np.repeat(rows.sum(1), 2)}).items():
        at = ("7", side, name)
        edges = statistics[f"{side}s"][name]["deciles"]
        assert isinstance(edges, list)
        counted = [found["serving_value_bucket", *at, str(edge), ""] for edge in (*edges, "+Inf")]
        assert counted == [*((values <= edge + 1e-6).sum() for edge in edges), len(values)]
        positive, negative = (found[f"serving_value_{sign}_total", *at, "", ""] for sign in ("positive", "negative"))
        assert positive - negative == pytest.approx(values.sum(dtype=float), rel=1e-4)
        squares = (values.astype(float) ** 2).sum()
        assert found["serving_value_squares_total", *at, "", ""] == pytest.approx(squares, rel=1e-4)
        assert found["serving_training_share", *at, "", "9"] == 0.1


def test_statistics_that_are_wrong_at_the_start_end_the_process(tmp_path: Path) -> None:
    metadata = json.dumps({"statistics": {"inputs": {"x[0]": {"deciles": [1], "mean": 1, "variance": 1}}}})
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    (repo / "metadata.json").write_text("{}")
    with served(repo) as server:
        log = server.ended()
    assert (server.process.returncode, "failed to load and warm up the model" in log) == (1, True)


PLAIN = """
def load(): return predict

def predict(payload):
    return [{"label": "b", "score": payload["shares"][0]}, {"label": "a", "score": payload["shares"][1]}]
"""


def test_nulls_and_the_entropy_of_plain_requests_are_counted(tmp_path: Path) -> None:
    feature = {"deciles": [1, 2], "mean": 1.5, "variance": 1, "null_rate": 0.25, "shares": [0.5, 0.25, 0.25]}
    statistics = {"inputs": {"age": feature, "none": feature}, "outputs": {"score": feature}}
    files: dict[str, str | bytes] = {
        "plain.py": PLAIN,
        "sample.json": '{"age": 1, "shares": [1.0, 0.0]}',
        "metadata.json": json.dumps({"statistics": {**statistics, "probabilities": "score"}, "name": "ages"}),
    }
    repo = initialised(tmp_path, files)
    with served(repo) as server:
        server.wait("/health/ready", 200)
        for age in (0, 1, 1.5, 2, 3):
            assert server.ask("/predict", json.dumps({"age": age, "shares": [0.5, 0.5]}).encode())[0] == 200
        found = samples(server.ask("/metrics")[1], "feature", "le", "bin")
    ages = [found["serving_value_bucket", "age", edge, ""] for edge in ("1.0", "2.0", "+Inf")]
    assert ages == [2, 4, 5]
    assert found["serving_value_missing_total", "none", "", ""] == 5
    assert found["serving_value_positive_total", "score", "", ""] == 5
    assert found["serving_training_share", "age", "", "0"] == 0.5
    assert found["serving_training_null_rate", "age", "", ""] == 0.25
    assert found["serving_prediction_entropy_count", "", "", ""] == 5
    assert found["serving_prediction_entropy_sum", "", "", ""] == 5


@pytest.fixture(scope="session")
def promtool() -> Path:
    return debian_files("prometheus", ["prometheus"], "bookworm main", "usr/bin") / "promtool"


def psi(values: NDArray[np.float32], deciles: list[float]) -> float:
    """The population stability index of values against deciles, as in the literature."""
    counts, _ = np.histogram(values, [-np.inf, *deciles, np.inf])
    shares = np.maximum(counts / len(values), 0.0001)
    return float(((shares - 0.1) * np.log(shares / 0.1)).sum())


def series(pages: list[str]) -> list[dict[str, str]]:
    """One scrape of the server a minute, as promtool reads it."""
    found: dict[str, list[str]] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            for one in family.samples:
                if one.name.startswith("serving_"):
                    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in one.labels.items())
                    found.setdefault(f'{one.name}{{{labels},job="serving"}}', []).append(repr(one.value))
    late = {name: ["_"] * (len(pages) - len(values)) for name, values in found.items()}  # not on the first pages
    return [{"series": name, "values": " ".join(late[name] + values)} for name, values in found.items()]


def check_rules(
    promtool: Path,
    repo: Path,
    inputs: list[dict[str, str]],
    expected: dict[tuple[str, str], int],
    alerts: Sequence[dict[str, object]] = (),
) -> None:
    """Evaluate the repository's rules; compare the counts of what expressions find at a time, and whole alerts."""
    tests = [
        {"expr": f"count({expr}) or vector(0)", "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
        for (expr, at), value in expected.items()
    ]
    document = {
        "rule_files": [str(repo / "monitoring/alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": tests, "alert_rule_test": alerts}],
    }
    (repo / "test.yml").write_text(json.dumps(document))
    argv = [str(promtool), "test", "rules", str(repo / "test.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=limit(60))
    assert done.returncode == 0, done.stdout + done.stderr


FIRING = 'ALERTS{alertname="%s",alertstate="firing"}'


def test_the_alert_fires_on_shifted_data_and_not_before(tmp_path: Path, promtool: Path) -> None:
    """90 minutes like the training, then 60 minutes in which one column is shifted; the metrics are the server's."""
    random = np.random.default_rng(1)
    trained = random.normal(size=(5_000, 4)).astype(np.float32)
    inputs = {f"x[{column}]": training(trained[:, column]) for column in range(4)}
    metadata = json.dumps({"statistics": {"inputs": inputs, "probabilities": "y"}})
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    rows = random.normal(size=(150, 20, 4)).astype(np.float32)
    rows[90:, :, 2] += 2
    with served(repo) as server:
        server.wait("/health/ready", 200)
        pages = [server.ask("/metrics")[1]]
        for minute in rows:
            assert server.ask("/predict", json.dumps({"x": minute.tolist()}).encode())[0] == 200
            pages.append(server.ask("/metrics")[1])
    firing = FIRING % "ServingDrift"
    expected = {(firing, "90m"): 0, (firing, "100m"): 0, (firing, "149m"): 1}
    expected[firing.replace("{", '{feature="x[2]",'), "149m"] = 1
    for end in (90, 120, 150):
        for column in range(4):
            deciles = inputs[f"x[{column}]"]["deciles"]
            assert isinstance(deciles, list)
            seen = rows[end - 60 : end, :, column].ravel()
            stability = psi(seen, deciles)
            assert (stability > 0.2) == (column == 2 and end > 90)
            moments = {"mean": seen.mean(dtype=float), "variance": seen.var(dtype=float)}
            for name, value in {"psi": stability, **moments}.items():
                expected[f'abs(serving:{name}:1h{{feature="x[{column}]"}} - {value}) < 1e-6', f"{end}m"] = 1
    for expr in panels(repo):  # each finds something, unless nothing failed
        expected[f"(count({expr}) > bool 0) == 1", "150m"] = 0 if "model_errors" in expr else 1
    check_rules(promtool, repo, series(pages), expected)


def test_the_alert_gives_psi_as_a_plain_number(tmp_path: Path, promtool: Path) -> None:
    """Not as `243.2m`, which reads like millions or metres."""
    metadata = json.dumps({"statistics": {"inputs": {"age": {"deciles": [1], "mean": 1, "variance": 1}}}})
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    labels = {"side": "input", "feature": "age"}
    inputs = [{"series": 'serving:psi:1h{side="input",feature="age"}', "values": "0.2432x30"}]
    summary = "input `age` differs from the training: PSI 0.24"
    alert: dict[str, object] = {
        "exp_labels": {**labels, "severity": "warning"},
        "exp_annotations": {"summary": summary},
    }
    alerts: list[dict[str, object]] = [{"alertname": "ServingDrift", "eval_time": "20m", "exp_alerts": [alert]}]
    check_rules(promtool, repo, inputs, {}, alerts)


def panels(repo: Path) -> list[str]:
    """The expressions of the dashboard."""
    dashboard = json.loads((repo / "monitoring/dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("statistics", [True, False])
def test_each_metric_of_the_dashboard_and_the_alerts_exists(tmp_path: Path, statistics: bool) -> None:
    feature = {"deciles": [1, 2], "mean": 1.5, "variance": 1}
    metadata = json.dumps({"statistics": {"inputs": {"x[0]": feature}}} if statistics else {})
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    drift = "from serving.drift import Drift; Drift('1')" if statistics else ""
    done = run_code(
        repo, f"from serving import metrics; metrics.Metrics('1'); {drift}\nprint(metrics.page()[0].decode())"
    )
    families = re.findall(r"^# TYPE (serving_\w+) ", done.stdout, re.MULTILINE)
    rules = (repo / "monitoring/alerts.yml").read_text()
    known = {*re.findall("record: (.*)", rules), *families}
    known |= {f"{name}_{part}" for name in families for part in ("bucket", "sum", "count")}
    used = set(re.findall(r"\bserving[_:][\w:]+", rules + " ".join(panels(repo))))
    assert used - known == set()
    assert ("serving:psi:1h" in used) == statistics


@pytest.mark.parametrize(
    ("alert", "metric", "values", "times"),
    [
        ("ServingNotReady", "serving_ready", "1x10 0x9", ("14m", "16m")),
        ("ServingErrors", 'serving_requests_total{status="500"}', "0x10 1+1x15", ("10m", "20m")),
        ("ServingQueueFull", 'serving_requests_total{status="503"}', "0x10 1+1x15", ("10m", "20m")),
        ("ServingOutputNotFinite", "serving_not_finite_outputs_total", "0x10 1x4", ("10m", "11m")),
        ("ServingNulls", 'serving_value_missing_total{feature="age"}', "0x10 20+20x40", ("10m", "40m")),
    ],
)
def test_an_alert_fires_in_time(
    tmp_path: Path, promtool: Path, alert: str, metric: str, values: str, times: tuple[str, str]
) -> None:
    metadata = json.dumps({"statistics": {"inputs": {"age": {"deciles": [1], "mean": 1, "variance": 1}}}})
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "metadata.json": metadata})
    inputs = [
        {"series": metric, "values": values},
        {"series": 'serving_requests_total{status="200"}', "values": "0+50x60"},
        {"series": 'serving_value_bucket{feature="age",le="+Inf"}', "values": "0+50x60"},
        {"series": 'serving_training_null_rate{feature="age"}', "values": "0.01x60"},
    ]
    check_rules(promtool, repo, inputs, {(FIRING % alert, time): fires for fires, time in enumerate(times)})
