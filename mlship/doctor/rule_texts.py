"""The texts of the rules, from mlship/data/rules, filled in with the values of a host.

A template has "{name}" for a value, "{name!q}" for a value quoted for the shell, "{name!branch}" for the driver branch
of a version, "[name?text]" for text that appears only if the value is true, and "[!name?text]" for the opposite. A rule
passes the values; `commands.COMMANDS` has those that every rule may name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from shlex import quote
from typing import Literal

from mlship.doctor.commands import COMMANDS
from mlship.doctor.conditions import EACH, Values, fill_each, value_in_words
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS, Decider, StackLayer, Step, Where
from mlship.doctor.versions import branch
from mlship.versioned import adapter, data_table, table_reader

_OPTIONAL = re.compile(r"\[(!?)(\w+)\?([^]]*)\]")
_VALUE = re.compile(r"\{(\w+)(!q|!branch)?\}")


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
            if all(bool(values[name.lstrip("!")]) != name.startswith("!") for name in step.when.split())
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


def in_general(template: str) -> str:
    """A template for no host in particular: its values by name, and without what depends on a host."""
    kept = _OPTIONAL.sub(lambda found: found[3] if found[1] else "", template)
    return _VALUE.sub(lambda found: found[1].upper(), kept.replace("{*", "{"))


_fact_commands = table_reader(dict[str, str], "fact_commands")


def ways_to_see(paths: tuple[str, ...], shown: tuple[Decider, ...]) -> tuple[Decider, ...]:
    """How to see facts that are unknown, one of several alternatives each, except those that are shown already."""
    firsts = dict.fromkeys(path.partition(" | ")[0] for path in paths)
    listed = {decider.fact for decider in shown}
    return tuple(Decider(path, _fact_commands()[path]) for path in firsts if path not in listed)


def _commands(templates: tuple[str, ...], facts: Facts, values: Values) -> Iterator[str]:
    for template in templates:
        alone = _VALUE.fullmatch(template)
        value = values.get(alone[1]) if alone else None
        if EACH.search(template):
            yield from fill_each(template, facts, values, fill)
        else:
            yield from value if isinstance(value, tuple) else filter(None, (fill(template, facts, values),))


def fill(template: str, facts: Facts, values: Values) -> str:
    """The text of a template.

    Raises:
        KeyError: the template names a value that the rule does not pass.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        text = value_in_words(values[name]) if name in values else COMMANDS[name](facts)
        return quote(text) if found[2] == "!q" else branch(text) if found[2] else text

    kept = _OPTIONAL.sub(lambda found: found[3] if bool(values[found[2]]) != bool(found[1]) else "", template)
    return _VALUE.sub(value, kept)
