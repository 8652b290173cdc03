"""Objects of a cluster as YAML that a person can read."""

from collections.abc import Mapping
from typing import TypeAlias

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
