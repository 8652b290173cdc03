"""Save the model in MLflow's format to the folder on the command line."""

import sys

from mlflow.pyfunc import save_model

save_model(
    path=sys.argv[1],
    python_model="digits.py",
    artifacts={"weights": "weights"},
    code_paths=["serving"],
    pip_requirements="requirements.txt",
)
