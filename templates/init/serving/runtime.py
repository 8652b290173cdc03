"""The life of the model: loading, warming up, ready, draining."""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serving.batching import Batcher
from serving.metrics import Metrics
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.predictor import Predictor

_MAX_RUNS, _MAX_SECONDS, _STEADY = 20, 20.0, 1.2  # the last three latencies are within 20 %

log = logging.getLogger("serving")


class Runtime:
    """What the routes need: the predictor and its queue, once they are ready."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.model_version)
        self.state = "loading"
        self.in_flight = 0
        self._predictor: Predictor | None = None
        self._batcher: Batcher | None = None

    @property
    def loaded(self) -> bool:
        """Whether requests can be answered, also while draining."""
        return self._batcher is not None

    @property
    def predictor(self) -> "Predictor":
        assert self._predictor is not None, "not ready"
        return self._predictor

    def start(self) -> None:
        """Load in the background, so that the probes respond meanwhile. A failure ends the process."""
        threading.Thread(target=self._start, name="load-model", daemon=True).start()

    def _start(self) -> None:
        try:
            began = time.perf_counter()
            from serving.predictor import Predictor  # imported here: slow imports must not delay the liveness probe

            predictor = Predictor()
            loaded = time.perf_counter()
            steady = self._warm_up(predictor)
            warm = time.perf_counter()
        except BaseException:
            traceback.print_exc()
            log.error("failed to load and warm up the model")
            sys.stderr.flush()
            os._exit(1)  # sys.exit would only end this thread
        self._predictor = predictor
        self._batcher = Batcher(
            predictor.run,
            max_rows=self.settings.max_batch,
            max_queue=self.settings.max_in_flight,
            seen=self.metrics.batch.observe,
        )
        self.metrics.started(loaded - began, warm - loaded, steady)
        if self.state == "loading":
            self.state = "ready"
            self.metrics.ready(True)
        log.info("the model is ready", extra={"load_s": loaded - began, "warm_up_s": warm - loaded, "steady_s": steady})

    def _warm_up(self, predictor: "Predictor") -> float:
        """Run the sample, as requests would, until latencies are steady; return the last latency of one request."""
        payload = predictor.parse(predictor.sample)
        for size in dict.fromkeys((predictor.together(payload, self.settings.max_batch), 1)):
            latency = _until_steady(predictor, [payload] * size)
        return latency

    async def predict(self, payload: Any) -> Any:
        """The output for a validated payload."""
        assert self._batcher is not None, "not ready"
        return await self._batcher.submit(payload, *self.predictor.shape_of(payload))

    def drain(self) -> None:
        """Stop being ready; requests are still answered."""
        self.state = "draining"
        self.metrics.ready(False)
        log.info("draining")


def _until_steady(predictor: "Predictor", payloads: Sequence[Any]) -> float:
    latencies: list[float] = []
    deadline = time.perf_counter() + _MAX_SECONDS
    while len(latencies) < _MAX_RUNS and time.perf_counter() < deadline:
        began = time.perf_counter()
        for output in predictor.run(payloads):
            predictor.encode(output)
        latencies.append(time.perf_counter() - began)
        last = latencies[-3:]
        if len(last) == 3 and max(last) <= _STEADY * min(last):
            break
    return latencies[-1]
