"""Every rule: each subclass of Rule with an id in a module of this folder. There is no list to keep."""

from importlib import import_module
from pkgutil import iter_modules

from mlship.doctor.rules.base import Rule

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
RULES: tuple[Rule, ...] = tuple(kind() for kind in Rule.registered)
