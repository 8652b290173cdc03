"""The rules of an audit, their verdicts, and the facts that they use. Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal, TypeAlias, TypeVar

from mlship.dockerfile.words import UNKNOWN
from mlship.project.paths import UNDOCUMENTED
from mlship.versioned import TableRow, table_reader

AuditVerdict: TypeAlias = Literal["pass", "fail", "unknown", "not applicable"]
_WORST: tuple[AuditVerdict, ...] = ("fail", "unknown", "pass")
T = TypeVar("T")


@dataclass(frozen=True)
class AuditRule:
    """A row of data/audit.toml."""

    id: str
    title: str
    why: str
    fix: str
    source: str


class KnownBase(TableRow):
    """What is published of a base image; see data/audit.toml."""

    names: tuple[str, ...]
    source: str
    compilers: bool | None = None
    musl: bool | None = None
    tag: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    cuda: bool = False


class Filler(TableRow):
    """Commands that fill a cache, and what keeps it out of the layer; see data/audit.toml."""

    programs: tuple[str, ...]
    verbs: tuple[str, ...]
    folders: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    moved_by: tuple[str, ...] = ()
    cleaned: str = ""


class _Locker(TableRow):
    program: str
    verbs: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    verdict: Literal["pass", "fail", "unknown"] = "unknown"


class AuditTable(TableRow):
    """data/audit.toml."""

    rule: tuple[AuditRule, ...]
    base: tuple[KnownBase, ...]
    filler: tuple[Filler, ...]
    locker: tuple[_Locker, ...]
    installers: frozenset[str]
    compilers: frozenset[str]
    credential: str
    no_credential: str
    templates: tuple[str, ...]
    releases: frozenset[str]
    logins: frozenset[str]
    known: tuple[str, ...]
    recipes: frozenset[str]
    starters: frozenset[str]
    compiler_folders: str
    package_folders: str
    kinds: str


@dataclass(frozen=True)
class AuditSeen:
    """One thing that a rule saw; `line` is that of a Dockerfile, 0 without one."""

    verdict: AuditVerdict
    text: str
    line: int = 0


def decided(passes: bool, good: str, bad: str, line: int = 0) -> AuditSeen:
    """What a rule saw that passes, or that fails."""
    return AuditSeen("pass", good, line) if passes else AuditSeen("fail", bad, line)


@dataclass(frozen=True)
class Judgement:
    """The verdict of a rule, with what decided it."""

    rule: AuditRule
    verdict: AuditVerdict
    seen: tuple[AuditSeen, ...]


@dataclass(frozen=True)
class AuditReport:
    """The verdicts of all rules about a Dockerfile or an image, in the order of the table."""

    target: str
    kind: Literal["Dockerfile", "image"]
    judgements: tuple[Judgement, ...]
    schema: int = 1

    def count(self, verdict: AuditVerdict) -> int:
        return sum(one.verdict == verdict for one in self.judgements)


audit_table = table_reader(AuditTable, "audit")


def judge_all(found: T, *judges: Callable[[T], Iterator[AuditSeen]]) -> tuple[Judgement, ...]:
    """The worst of what each rule saw, by the function of its name; one that saw nothing does not apply."""
    by_rule, rows = {judge.__name__[1:].replace("_", "-"): judge for judge in judges}, list[Judgement]()
    for rule in audit_table().rule:
        seen = tuple(by_rule[rule.id](found))
        worst = min(seen, key=lambda each: _WORST.index(each.verdict)).verdict if seen else "not applicable"
        rows.append(Judgement(rule, worst, tuple(dict.fromkeys(each for each in seen if each.verdict == worst))))
    return tuple(rows)


def known_base(image: str) -> KnownBase | None:
    """What is published of an image, by its reference; nothing if it may be of more than one row."""
    name, tag = split_reference(image)
    words = set(tag.replace(".", "-").split("-")) | {"alpine" for part in tag.split("-") if part.startswith("alpine")}
    rows = (row for row in audit_table().base if name in row.names and not words & set(row.without))
    found = next((row for row in rows if not row.tag or words & set(row.tag)), None)
    return None if found and found.without and (UNKNOWN in tag or (not tag and "@" in image)) else found


def split_reference(image: str) -> tuple[str, str]:
    """The name of an image as Docker Hub shows it, and its tag; empty without one."""
    rest = image.partition("@")[0]
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    for prefix in ("docker.io/", "index.docker.io/", "mirror.gcr.io/", "public.ecr.aws/docker/", "library/"):
        name = name.removeprefix(prefix)
    return name, tag


def may_hold_credentials(file: str, names: tuple[str, ...] = UNDOCUMENTED) -> bool:
    """Whether files of this name often hold credentials, by default in formats that are not published; no templates."""
    matches = (any(fnmatch(file, one) for one in rows) for rows in (names, audit_table().templates))
    return tuple(matches) == (True, False)


def is_credential(name: str, value: str | None) -> bool:
    """Whether a variable holds a credential, by its name; None is a value that is not known."""
    is_named = re.fullmatch(audit_table().credential, name.replace("-", "_"))
    return bool(is_named) and (value is None or not re.fullmatch(audit_table().no_credential, value))
