"""Every rule: those of mlship/data/rules, with the values that the functions here compute."""

from importlib import import_module
from pkgutil import iter_modules

from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules.base import COMPUTED, Rule

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
RULES: tuple[Rule, ...] = tuple(Rule(rule_id, COMPUTED.get(rule_id, lambda _: {})) for rule_id in rule_texts())
