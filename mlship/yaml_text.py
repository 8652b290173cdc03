"""YAML: objects of a cluster as text that a person can read, and documents of others."""

from collections.abc import Mapping
from typing import TypeAlias

_DEEPEST = 50
Yaml: TypeAlias = "str | int | bool | list[Yaml] | dict[str, Yaml]"


def yaml_text(document: Mapping[str, Yaml]) -> str:
    """A document as YAML, without aliases; programs are blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _data: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return yaml.dump(dict(document), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def parse_yaml(text: str) -> object:
    """A document of someone else's, by libyaml where it is: the parser in Python takes seconds for a large one.

    Raises:
        ValueError: it is no YAML, or nested so deeply that libyaml would overflow the stack.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError("nested too deeply")
        found: object = yaml.load(text, loader)  # noqa: S506  both are safe loaders
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {getattr(error, 'problem', None) or error}") from error
    return found
