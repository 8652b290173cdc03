"""Every rule: each subclass of Rule with an id in a module of this folder. There is no list to keep."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from mlship.doctor.rules.base import Rule


def _rules(kind: type[Rule]) -> Iterator[Rule]:
    for subclass in kind.__subclasses__():
        if "id" in vars(subclass):
            yield subclass()
        yield from _rules(subclass)


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
RULES: tuple[Rule, ...] = tuple(_rules(Rule))  # type: ignore[type-abstract]  # only subclasses are called
