"""The condition of a rule as data: terms, atoms and evidence, as mlship/data/rules writes them. Pure.

A term is a value that the rule defines, a name of `NAMED`, 'a text', or the path of a fact, with keys that contain dots
or slashes in brackets: "host.device_nodes[/dev/nvidiactl].open". Of terms separated by " | ", the first known counts.

An atom is a term that must be true, or one of these; "!" before it negates it, and " | " separates alternatives:
"TERM = A, B", "TERM ~ PATTERN", "TERM >= 1.18" (versions), "TERM < 5", "TERM absent", "TERM known", and for versions
"TERM newer TERM" and "TERM same TERM". Unknown facts make an atom false, before "!" negates it. Atoms separated by
" & " must all hold.

An item of evidence is a term, which is left out if unknown, or "FACT = TEXT" with a template; " if ATOMS" may follow.
"{*name}" in the text makes an item of each value of that name.

The value of "lines ~ PATTERN" is a line that the engine ("recorded ~") or a user ("reported ~") reported, of "log ~
PATTERN" one of the kernel log, of "errors ~" also one that a framework raised, each as evidence. "PATH ~ PATTERN" is
the first item of a list that matches, or the keys of a table whose values match; "PATH without PATTERN" a list of
folders such as LD_LIBRARY_PATH, without the matching.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from mlship.doctor import commands, queries
from mlship.doctor.container import (
    environment,
    gpus_need_no_hook,
    has_started,
    host_driver,
    host_is_well,
    injection,
    is_elsewhere,
    is_rootless,
    is_snap,
    runtime,
    runtime_mode,
    works,
)
from mlship.doctor.facts.fact import UNKNOWN, Unknown, Unreadable, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library
from mlship.doctor.finding import Evidence
from mlship.doctor.frameworks import error_line
from mlship.doctor.versions import newer, same, version_numbers
from mlship.driver import codes

Values = Mapping[str, object]
Fill = Callable[[str, Facts, Values], str]
_BY_NAME: tuple[Callable[[Facts], object], ...] = (
    *(commands.engine, commands.manager, gpus_need_no_hook, host_is_well, injection, runtime, runtime_mode, works),
    *(queries.brands, queries.driver_cuda, queries.driver_is_contained, queries.gpu_is_known_absent, queries.gpus),
    *(queries.offers_passed_gpus, queries.passed_on, queries.serves_vms, queries.wsl_lacks_nvidia),
)
NAMED: dict[str, Callable[[Facts], object]] = {
    **{one.__name__: one for one in _BY_NAME},
    "counts_all": queries.nvml_counts_all,
    "driver": host_driver,
    "docker_is_silent": lambda facts: isinstance(facts.host.docker.version, Unreadable),
    "driver_pod": lambda facts: queries.failing_pod(facts, "driver"),
    "elsewhere": is_elsewhere,
    "env": environment,
    "first_gpu": lambda facts: next(map(queries.describe, queries.gpus(facts)), None),
    "install_libcuda": lambda facts: commands.install_libcuda(facts, host_driver(facts)),
    "loaded": queries.module_is_loaded,
    "module": queries.kernel_driver,
    "never": lambda _: False,
    "plugin_pod": lambda facts: queries.failing_pod(facts, "device-plugin"),
    "rootless": is_rootless,
    "snap": is_snap,
    "started": has_started,
    "tegra": queries.is_tegra,
    "wsl": queries.is_wsl,
}
_PART = re.compile(r"\[([^]]+)\]|([\w-]+)")
_ATOM = re.compile(r"(!?)([^ ]+)(?: (=|~|<|>=|newer|same|absent|known)(?: (.+))?)?")
_OF_VERSIONS = {"newer": newer, "same": same}
EACH = re.compile(r"\{\*(\w+)((?:!q)?)\}")
_LINES = {
    "lines": queries.line_of,
    "recorded": queries.recorded_line,
    "reported": queries.reported_line,
    "log": queries.logged,
    "errors": error_line,
}


def value_at(facts: Facts, term: str, values: Values) -> object:
    """What a term stands for: a value or, for the path of a fact, the fact."""
    lines, _, pattern = term.partition(" ~ ")
    if pattern and lines in _LINES:
        return _LINES[lines](facts, pattern)
    if pattern:
        return _matching(known(_value(facts, lines, values)), pattern)
    path, _, pattern = term.partition(" without ")
    if pattern:
        folders = str(known(_value(facts, path, values)) or "").split(":")
        return ":".join(folder for folder in folders if folder and not re.search(pattern, folder)) or None
    found: object = UNKNOWN
    for one in term.split(" | "):
        found = _value(facts, one, values)
        if known(found) is not None:
            break
    return found


def _matching(listed: object, pattern: str) -> object:
    if isinstance(listed, dict):
        return tuple(sorted(key for key, ones in listed.items() if any(re.search(pattern, one) for one in ones)))
    lines = map(_item_in_words, listed) if isinstance(listed, tuple) else ()
    return next((line for line in lines if re.search(pattern, line)), None)


def _value(facts: Facts, term: str, values: Values) -> object:
    head = term.partition(".")[0].partition("[")[0]
    if term.startswith("'"):
        return term.strip("'")
    value = values[head] if head in values else NAMED[head](facts) if head in NAMED else UNKNOWN
    parts = [key or name for key, name in _PART.findall(term)]
    if head in values or head in NAMED:
        parts, is_complete = parts[1:], head == "env"
    else:
        value, is_complete = facts, False
    for part in parts:
        if value is None or isinstance(value, Unknown | Unreadable):
            return value
        missing = None if is_complete else UNKNOWN
        value = value.get(part, missing) if isinstance(value, dict) else getattr(value, part)
        is_complete = part == "env"  # the environment is read completely: a missing variable is absent
    return value


def all_atoms_hold(facts: Facts, atoms: str, values: Values) -> bool:
    """All of the atoms are true."""
    return all(any(_holds(facts, one, values) for one in atom.split(" | ")) for atom in atoms.split(" & "))


def _holds(facts: Facts, atom: str, values: Values) -> bool:
    found = _ATOM.fullmatch(atom)
    if found is None:
        raise ValueError(f"{atom!r} is no atom of a condition")
    negated, term, operator, wanted = found.groups()
    value = _value(facts, term, values)
    if operator in _OF_VERSIONS:
        one, other = known(value), known(_value(facts, wanted, values))
        holds = bool(one and other) and _OF_VERSIONS[operator](str(one), str(other))
        return holds is not (negated == "!")
    return _compares(value, operator, wanted) is not (negated == "!")


def _compares(value: object, operator: str | None, wanted: str | None) -> bool:
    if operator == "absent":
        return value is None
    if operator == "known":
        return is_known(value)
    has = known(value)
    if operator is None:
        return bool(has)
    if operator == "~":
        return re.search(wanted or "", str(has or "")) is not None
    if operator == "=":
        return has is not None and str(has).lower() in (wanted or "").lower().split(", ")
    numbers, bound = version_numbers(str(has or "")), version_numbers(wanted or "")
    return bool(numbers) and (numbers < bound if operator == "<" else numbers >= bound)


def evidence_of(facts: Facts, items: tuple[str, ...], values: Values, fill: Fill) -> Iterator[Evidence]:
    """The evidence that these items name; `fill` fills in a template."""
    for item in items:
        shown, _, atoms = item.partition(" if ")
        fact, _, text = shown.partition(" = ")
        if atoms and not all_atoms_hold(facts, atoms, values):
            continue
        value = known(value_at(facts, fact, values)) if not text else None
        if EACH.search(text):
            yield from (Evidence(fill(fact, facts, values), one) for one in fill_each(text, facts, values, fill))
        elif text:
            yield Evidence(fill(fact, facts, values), fill(text, facts, values))
        elif isinstance(value, Evidence):
            yield value
        elif isinstance(value, tuple) and all(isinstance(one, Evidence) for one in value):
            yield from (one for one in value if isinstance(one, Evidence))
        elif value is not None:
            yield Evidence(fact, fact_in_words(fact, value))


def fill_each(template: str, facts: Facts, values: Values, fill: Fill) -> Iterator[str]:
    """The text for each value of the name in "{*name}" or "{*name!q}"."""
    if found := EACH.search(template):
        ones = values[found[1]]
        for one in ones if isinstance(ones, tuple) else ():
            yield fill(template.replace(found[0], f"{{each{found[2]}}}"), facts, {**values, "each": one})


def fact_in_words(fact: str, value: object) -> str:
    """A value as the report shows it."""
    if isinstance(value, int) and not isinstance(value, bool):
        say = codes.nvml if fact.endswith("nvml.init") else codes.cuda if fact.endswith(("cuda.init", "code")) else str
        return say(value)
    return value_in_words(value)


def value_in_words(value: object) -> str:
    """A value, or the items of a list, in a text."""
    return ", ".join(map(_item_in_words, value)) if isinstance(value, tuple) else _item_in_words(value)


def _item_in_words(item: object) -> str:
    return item.path if isinstance(item, Library) else str(item)
