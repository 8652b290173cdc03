"""The model in MLflow's "models from code" style."""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Digits(PythonModel):
    def load_context(self, context) -> None:
        from serving.model import load

        self._model = load(Path(context.artifacts["weights"]))

    def predict(self, context, model_input, params=None):
        return self._model.predict(model_input)


set_model(Digits())
