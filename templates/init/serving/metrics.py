"""Prometheus metrics, each with the version of the model."""

from typing import Any, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase

M = TypeVar("M", bound=MetricWrapperBase)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_V = "model_version"
disable_created_metrics()  # type: ignore[no-untyped-call]  # half of the lines, of no use to Prometheus


class Metrics:
    """The metrics of one version of the model; those without other labels exist, as 0, before the first request."""

    def __init__(self, version: str) -> None:
        def of_version(kind: type[M], name: str, text: str, **options: Any) -> M:
            return kind(f"serving_{name}", text, (_V,), **options).labels(version)

        self.in_flight = of_version(Gauge, "requests_in_flight", "Requests that are being handled.")
        self.batch = of_version(Histogram, "batch_rows", "Rows that ran together.", buckets=_ROWS)
        self.not_finite = of_version(Counter, "not_finite_outputs", "Outputs with NaN or infinity.")
        self.load_seconds = of_version(Gauge, "model_load_seconds", "Time to import and load the model.")
        self.warm_up_seconds = of_version(Gauge, "model_warm_up_seconds", "Time to warm the model up.")
        self.steady_seconds = of_version(Gauge, "model_steady_seconds", "The last latency of the warm-up.")
        self.first_seconds = of_version(Gauge, "first_request_seconds", "Time of the first real request.")
        self.ready = of_version(Gauge, "ready", "1 while the server accepts requests.")
        self._errors = Counter("serving_model_errors", "Exceptions of the model, by class.", (_V, "kind"))
        self._requests = Counter("serving_requests", "Requests by route and status.", (_V, "route", "status"))
        self._seconds = Histogram("serving_request_seconds", "Request to response.", (_V, "route"), buckets=_SECONDS)
        self._version, self._first = version, True
        self._labels: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        found = self._labels.get((route, status))
        if found is None:
            found = self._requests.labels(self._version, route, status), self._seconds.labels(self._version, route)
            self._labels[route, status] = found
        found[0].inc()
        found[1].observe(seconds)
        if self._first and status == 200:
            self._first = False
            self.first_seconds.set(seconds)

    def model_error(self, error: BaseException) -> None:
        """Count an exception of the model."""
        self._errors.labels(self._version, type(error).__name__).inc()


def page() -> tuple[bytes, str]:
    """The text of `GET /metrics` and its media type."""
    return generate_latest(), CONTENT_TYPE_LATEST
