"""`mlship training-record`."""


def training_record_command() -> None:
    """Print a script that records the libraries of a training.

    Copy it beside the training script; it needs no mlship. `model.metadata` in mlship.yaml names what it writes.
    """
    from mlship.console import emit
    from mlship.resources import read_template

    emit(read_template("training_record.py").rstrip("\n"))
