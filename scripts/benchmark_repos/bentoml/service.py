"""The model as a BentoML service."""

import bentoml
from serving.model import load


@bentoml.service
class Digits:
    def __init__(self) -> None:
        self._model = load()

    @bentoml.api
    def predict(self, pixels: list[list[float]]) -> dict:
        return self._model.predict({"pixels": pixels})
