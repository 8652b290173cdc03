"""The rows of mlship/data/rules, and their texts filled in with the values of a host."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from mlship.doctor.conditions import VALUE, Values, fill, fill_each, named
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS, Decider, StackLayer, Step, Where
from mlship.versioned import adapter, data_table, table_reader


@dataclass(frozen=True)
class StepText:
    """One step of a fix.

    Attributes:
        say, run: templates. A command that is nothing but a value can be several, as one with "{*name}" is for each
            of these values; those that are empty are dropped.
        when: names of values that must be true for this step, or false after "!", such as "on_host !podman".
        instead: as in `Step`.
    """

    say: str
    run: tuple[str, ...] = ()
    when: str = ""
    instead: bool = False


@dataclass(frozen=True)
class RuleText:
    """What mlship/data/rules/LAYER.toml says about a rule.

    Attributes:
        link: the link of the chain (mlship/data/chain.toml) that this failure breaks, where it was found on the host.
        title: the failure in one line.
        story: how it comes about and how it shows; a few sentences, for `mlship doctor explain`.
        source: where it was reported or documented.
        needs: paths of the facts that the rule requires, such as "kernel.pci". "place.nvml.init" is known if the host
            or the container has it; in "kernel.pci | kernel.log" either one is enough.
        certain_with: facts, besides `needs`, without which the cause is only likely: they could rule it out.
        explains: what follows from this failure besides the breaks of its link and of those above it: ids of rules,
            and of symptoms of lower links, such as "cuda.runtime=35" (see mlship/doctor/chain).
        excludes: ids of rules that are dropped if this one fires, because it is the better answer.
        cause, fix, decides: templates for the finding.
        when: atoms that must all hold (see `conditions`).
        values: for these and for the templates, by name: a term, a line that matches a pattern, or "ATOMS ?", which is
            whether these hold.
        place: where `when` is looked at; with "any", on the host and then in the container, whose facts are "place.".
        certain: atoms that must all hold, besides, for the cause to be certain.
        evidence: items of evidence.
    """

    layer: StackLayer
    link: str
    title: str
    story: str
    source: tuple[str, ...]
    needs: tuple[str, ...]
    certain_with: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    cause: str = ""
    fix: tuple[StepText, ...] = ()
    decides: tuple[Decider, ...] = ()
    when: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    place: Where | Literal["any"] = "host"
    certain: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()

    def steps(self, facts: Facts, values: Values) -> tuple[Step, ...]:
        """The steps of the fix for this host."""
        return tuple(
            Step(fill(step.say, facts, values), tuple(_commands(step.run, facts, values)), step.instead)
            for step in self.fix
            if all(bool(named(one.lstrip("!"), facts, values)) != one.startswith("!") for one in step.when.split())
        )

    def deciders(self, facts: Facts, values: Values) -> tuple[Decider, ...]:
        """What would confirm the cause on this host; a row whose command is empty does not apply."""
        filled = (Decider(fill(one.fact, facts, values), fill(one.command, facts, values)) for one in self.decides)
        return tuple(one for one in filled if one.command)


@cache
def rule_texts() -> dict[str, RuleText]:
    """The texts of every rule, by its id."""
    read = adapter(RuleText).validate_python
    return {
        rule_id: read({"layer": layer, **row})
        for layer in LAYERS
        for rule_id, row in data_table(dict[str, dict[str, object]], f"rules/{layer.replace(' ', '-')}").items()
    }


_ISSUE = re.compile(r"([\w.-]+/[\w.-]+)(?: PR)?#(\d+)")


@cache
def _documents() -> dict[str, str]:
    rows = data_table(dict[str, str], "documents")
    return {begin: rows[begin] for begin in sorted(rows, key=len, reverse=True)}


def with_address(source: str) -> str:
    """A source of a rule with the address where it can be read."""
    if "://" in source:
        return source
    if issue := _ISSUE.match(source):
        return f"{source}: https://github.com/{issue[1]}/issues/{issue[2]}"
    return next((f"{source}: {at}" for begin, at in _documents().items() if source.startswith(begin)), source)


_fact_commands = table_reader(dict[str, str], "fact_commands")


def ways_to_see(paths: tuple[str, ...], shown: tuple[Decider, ...]) -> tuple[Decider, ...]:
    """How to see facts that are unknown, one of several alternatives each, except those that are shown already."""
    firsts = dict.fromkeys(path.partition(" | ")[0] for path in paths)
    listed = {decider.fact for decider in shown}
    return tuple(Decider(path, _fact_commands()[path]) for path in firsts if path not in listed)


def _commands(templates: tuple[str, ...], facts: Facts, values: Values) -> Iterator[str]:
    for template in templates:
        alone = VALUE.fullmatch(template)
        value = values.get(alone[1]) if alone else None
        yield from value if isinstance(value, tuple) else filter(None, fill_each(template, facts, values))
