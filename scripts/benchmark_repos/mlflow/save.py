"""Saves the model in MLflow's own format, into the folder named on the command line."""

import sys

from mlflow.pyfunc import save_model

save_model(
    path=sys.argv[1],
    python_model="digits.py",
    artifacts={"weights": "weights"},
    code_paths=["serving"],
    pip_requirements="requirements.txt",
)
