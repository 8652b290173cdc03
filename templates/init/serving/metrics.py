"""Prometheus metrics, each with the version of the model."""

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_V = "model_version"
disable_created_metrics()  # type: ignore[no-untyped-call]  # half of the lines, of no use to Prometheus

REQUESTS = Counter("serving_requests", "Requests by route and status.", (_V, "route", "status"))
SECONDS = Histogram("serving_request_seconds", "Time from request to response.", (_V, "route"), buckets=_SECONDS)
IN_FLIGHT = Gauge("serving_requests_in_flight", "Requests that are being handled.", (_V,))
BATCH_ROWS = Histogram("serving_batch_rows", "Rows that ran together.", (_V,), buckets=_ROWS)
MODEL_ERRORS = Counter("serving_model_errors", "Exceptions of the model, by class.", (_V, "kind"))
NOT_FINITE = Counter("serving_not_finite_outputs", "Outputs with NaN or infinity.", (_V,))
LOAD_SECONDS = Gauge("serving_model_load_seconds", "Time to import and load the model.", (_V,))
WARM_UP_SECONDS = Gauge("serving_model_warm_up_seconds", "Time to warm the model up.", (_V,))
STEADY_SECONDS = Gauge("serving_model_steady_seconds", "The last latency of the warm-up.", (_V,))
FIRST_SECONDS = Gauge("serving_first_request_seconds", "Time of the first real request.", (_V,))
READY = Gauge("serving_ready", "1 while the server accepts requests.", (_V,))
_OF_ONE_VERSION = (IN_FLIGHT, BATCH_ROWS, NOT_FINITE, LOAD_SECONDS, WARM_UP_SECONDS, STEADY_SECONDS, FIRST_SECONDS)


class Metrics:
    """The metrics of one version of the model."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._first = True
        for metric in (*_OF_ONE_VERSION, READY):  # so that they exist, as 0, before the first request
            metric.labels(version)
        self._labels: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.in_flight = IN_FLIGHT.labels(version)
        self.batch = BATCH_ROWS.labels(version)
        self.not_finite = NOT_FINITE.labels(version)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a response."""
        found = self._labels.get((route, status))
        if found is None:
            found = REQUESTS.labels(self.version, route, str(status)), SECONDS.labels(self.version, route)
            self._labels[route, status] = found
        found[0].inc()
        found[1].observe(seconds)
        if self._first and status == 200:
            self._first = False
            FIRST_SECONDS.labels(self.version).set(seconds)

    def model_error(self, error: BaseException) -> None:
        """Count an exception of the model."""
        MODEL_ERRORS.labels(self.version, type(error).__name__).inc()

    def started(self, load: float, warm_up: float, steady: float) -> None:
        """Record how long the start took, in seconds."""
        LOAD_SECONDS.labels(self.version).set(load)
        WARM_UP_SECONDS.labels(self.version).set(warm_up)
        STEADY_SECONDS.labels(self.version).set(steady)

    def ready(self, value: bool) -> None:
        """Record readiness."""
        READY.labels(self.version).set(value)


def page() -> tuple[bytes, str]:
    """The text of `GET /metrics` and its media type."""
    return generate_latest(), CONTENT_TYPE_LATEST
