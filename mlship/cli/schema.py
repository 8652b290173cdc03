"""`mlship schema`."""


def schema_command() -> None:
    """Print the JSON schema of mlship.yaml, for editors."""
    import json

    from mlship.console import emit
    from mlship.project.config import config_schema

    emit(json.dumps(config_schema(), indent=2))
