"""`mlship schema`."""


def schema() -> None:
    """Print the JSON schema of mlship.yaml, for editors."""
    import json

    from mlship.console import emit
    from mlship.project.config import json_schema

    emit(json.dumps(json_schema(), indent=2))
