"""Every rule: those of mlship/data/rules with a condition there, and the subclasses of Rule with an id here."""

from importlib import import_module
from pkgutil import iter_modules

from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules.base import DeclaredRule, Rule

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
_IN_PYTHON = {kind.id: kind for kind in Rule.registered}
RULES: tuple[Rule, ...] = tuple(
    _IN_PYTHON[rule_id]() if rule_id in _IN_PYTHON else DeclaredRule(rule_id) for rule_id in rule_texts()
)
