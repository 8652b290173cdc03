"""The language of mlship/data/rules: terms, atoms, evidence and templates. Pure.

A term is a value that the rule defines, a name of `NAMED`, 'a text', or the path of a fact, with keys that contain dots
or slashes in brackets: "host.device_nodes[/dev/nvidiactl].open". Of terms separated by " | ", the first known counts.

An atom is a term that must be true, or one of these; "!" before it negates it, and " | " separates alternatives:
"TERM = A, B", "TERM ~ PATTERN", "TERM >= 1.18" (versions), "TERM < 5", "TERM absent", "TERM known", for versions "TERM
newer TERM" and "TERM same TERM", and for times "TERM after TERM". Unknown facts make an atom false, before "!" negates
it. Atoms separated by " & " must all hold.

An item of evidence is a term, which is left out if unknown, or "FACT = TEXT" with a template; " if ATOMS" may follow.
"{*name}" in the text makes an item of each value of that name.

A template has "{name}" for a value, "{name!q}" for a value quoted for the shell, "{name!branch}" for the driver branch
of a version, "[name?text]" for text that appears only if the value is true, and "[!name?text]" for the opposite.

The value of "lines ~ PATTERN" is a line that the engine ("recorded ~") or a user ("reported ~") reported, of "log ~
PATTERN" one of the kernel log, of "dmesg ~" the first match in its whole text, of "errors ~" also one that a framework
raised, each as evidence; of "nvml ~ CODE" and "cuda ~ CODE" every answer with such a code. "PATH ~ PATTERN" is the
first item of a list that matches, or the keys of a table whose values match; "PATH without PATTERN" a list of folders
such as LD_LIBRARY_PATH, without the matching.

A path that goes on after a list stands for the known values of its items: "host.nvml.devices.name". Such an atom holds
if one of them fits.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import gt
from shlex import quote

from mlship.doctor import commands, queries
from mlship.doctor.container import (
    environment,
    gpus_need_no_hook,
    has_started,
    host_driver,
    host_is_well,
    injection,
    is_elsewhere,
    is_lxc,
    is_rootless,
    runtime,
    runtime_mode,
    version_of_engine,
    works,
)
from mlship.doctor.facts.fact import UNKNOWN, Unknown, Unreadable, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library
from mlship.doctor.finding import Evidence
from mlship.doctor.frameworks import error_line
from mlship.doctor.versions import branch, newer, same, version_numbers
from mlship.driver import codes

Values = Mapping[str, object]
_BY_NAME: tuple[Callable[[Facts], object], ...] = (
    *(commands.engine, commands.gpu_options, commands.headers, commands.hold_driver, commands.initramfs),
    *(commands.manager, commands.refresh_cdi, commands.restart_container, commands.restart_engine),
    *(version_of_engine, gpus_need_no_hook, host_is_well, injection, is_lxc, runtime, runtime_mode, works),
    *(queries.all_answer, queries.brands, queries.driver_cuda, queries.driver_is_contained, queries.gpus),
    *(queries.device_plugin, queries.gpu_is_known_absent, queries.offers_passed_gpus, queries.passed_on),
    *(queries.packages_of_driver, queries.serves_vms, queries.upgrades, queries.wsl_lacks_nvidia),
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
    "image": lambda facts: quote(known(facts.image.reference) or "IMAGE"),
    "install": commands.install_start,
    "install_libcuda": lambda facts: commands.install_libcuda(facts, host_driver(facts)),
    "loaded": queries.module_is_loaded,
    "module": queries.kernel_driver,
    "never": lambda _: False,
    "plugin_pod": lambda facts: queries.failing_pod(facts, "device-plugin"),
    "rootless": is_rootless,
    "snap": commands.is_snap,
    "started": has_started,
    "tegra": queries.is_tegra,
    "ubuntu": queries.is_ubuntu,
    "wsl": queries.is_wsl,
}
_PART = re.compile(r"\[([^]]+)\]|([\w-]+)")
_ATOM = re.compile(r"(!?)([^ ]+)(?: (=|~|<|>=|newer|same|after|absent|known)(?: (.+))?)?")
_OF_TWO: dict[str, Callable[[str, str], bool]] = {"newer": newer, "same": same, "after": gt}
_EACH = re.compile(r"\{\*(\w+)((?:!q)?)\}")
_OPTIONAL = re.compile(r"\[(!?)(\w+)\?([^]]*)\]")
VALUE = re.compile(r"\{(\w+)(!q|!branch)?\}")
_LINES = {
    "lines": queries.line_of,
    "recorded": queries.recorded_line,
    "reported": queries.reported_line,
    "log": queries.logged,
    "dmesg": queries.log_match,
    "errors": error_line,
    "nvml": queries.nvml_returns,
    "cuda": queries.cuda_returns,
}


def value_at(facts: Facts, term: str, values: Values) -> object:
    """What a term stands for: a value or, for the path of a fact, the fact."""
    lines, _, pattern = term.partition(" ~ ")
    if pattern and lines in _LINES:
        return _LINES[lines](facts, pattern) or None
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


def named(name: str, facts: Facts, values: Values) -> object:
    """A value of the rule, or one of `NAMED`.

    Raises:
        KeyError: it is neither.
    """
    return values[name] if name in values else NAMED[name](facts)


def _matching(listed: object, pattern: str) -> object:
    if isinstance(listed, dict):
        return tuple(sorted(key for key, ones in listed.items() if any(re.search(pattern, one) for one in ones)))
    lines = map(_item_in_words, listed) if isinstance(listed, tuple) else ()
    return next((line for line in lines if re.search(pattern, line)), None)


def _value(facts: Facts, term: str, values: Values) -> object:
    head = term.partition(".")[0].partition("[")[0]
    if term.startswith("'"):
        return term.strip("'")
    parts = [key or name for key, name in _PART.findall(term)]
    is_name = head in values or (head in NAMED and not hasattr(facts, head))  # "image.env" is a fact, "{image}" a name
    value: object = named(head, facts, values) if is_name else facts
    parts, is_complete = parts[1:] if is_name else parts, head == "env"
    for part in parts:
        if value is None or isinstance(value, Unknown | Unreadable):
            return value
        if isinstance(value, tuple):
            value = tuple(known(getattr(item, part)) for item in value if is_known(getattr(item, part)))
            continue
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
    if operator in _OF_TWO:
        one, other = known(value), known(_value(facts, wanted, values))
        holds = bool(one and other) and _OF_TWO[operator](str(one), str(other))
        return holds is not (negated == "!")
    return _compares(value, operator, wanted) is not (negated == "!")


def _compares(value: object, operator: str | None, wanted: str | None) -> bool:
    if operator in {"absent", "known"}:
        return value is None if operator == "absent" else is_known(value)
    if value and isinstance(value, tuple) and operator in {"=", "~"}:
        return any(_compares(item, operator, wanted) for item in value)
    has = known(value)
    if operator is None:
        return bool(has)
    if operator == "~":
        return re.search(wanted or "", str(has or "")) is not None
    if operator == "=":
        return has is not None and str(has).lower() in (wanted or "").lower().split(", ")
    numbers, bound = version_numbers(str(has or "")), version_numbers(wanted or "")
    return bool(numbers) and (numbers < bound if operator == "<" else numbers >= bound)


def evidence_of(facts: Facts, items: tuple[str, ...], values: Values) -> Iterator[Evidence]:
    """The evidence that these items name."""
    for item in items:
        shown, _, atoms = item.partition(" if ")
        fact, _, text = shown.partition(" = ")
        if atoms and not all_atoms_hold(facts, atoms, values):
            continue
        if text:
            yield from (Evidence(fill(fact, facts, values), one) for one in fill_each(text, facts, values))
            continue
        value = known(value_at(facts, fact, values))
        ones = value if isinstance(value, tuple) else (value,)
        if all(isinstance(one, Evidence) for one in ones):
            yield from (one for one in ones if isinstance(one, Evidence))
        elif value is not None:
            yield Evidence(fact, fact_in_words(fact, value))


def fact_in_words(fact: str, value: object) -> str:
    """A value as the report shows it."""
    if isinstance(value, int) and not isinstance(value, bool):
        of_nvml = fact.endswith("nvml.init") or ".nvml.codes[" in fact
        say = codes.nvml if of_nvml else codes.cuda if fact.endswith(("cuda.init", "code")) else str
        return say(value)
    return value_in_words(value)


def value_in_words(value: object) -> str:
    """A value, or the items of a list, in a text."""
    return ", ".join(map(_item_in_words, value)) if isinstance(value, tuple) else _item_in_words(value)


def _item_in_words(item: object) -> str:
    return item.path if isinstance(item, Library) else str(item)


def fill(template: str, facts: Facts, values: Values) -> str:
    """The text of a template.

    Raises:
        KeyError: the template names a value that the rule does not pass.
    """

    def value(found: re.Match[str]) -> str:
        text = value_in_words(named(found[1], facts, values))
        return quote(text) if found[2] == "!q" else branch(text) if found[2] else text

    def optional(found: re.Match[str]) -> str:
        return found[3] if bool(named(found[2], facts, values)) != bool(found[1]) else ""

    return VALUE.sub(value, _OPTIONAL.sub(optional, template))


def fill_each(template: str, facts: Facts, values: Values) -> Iterator[str]:
    """The text for each value of the name in "{*name}" or "{*name!q}"; without one, the text."""
    found = _EACH.search(template)
    if found is None:
        yield fill(template, facts, values)
    elif isinstance(ones := values[found[1]], tuple):
        for one in ones:
            yield fill(template.replace(found[0], f"{{each{found[2]}}}"), facts, {**values, "each": one})


def in_general(template: str) -> str:
    """A template for no host in particular: its values by name, and without what depends on a host."""
    kept = _OPTIONAL.sub(lambda found: found[3] if found[1] else "", template)
    return VALUE.sub(lambda found: found[1].upper(), kept.replace("{*", "{"))
