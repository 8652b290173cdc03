"""The rules of an audit, their verdicts, and the facts that they use. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal, TypeAlias, TypeVar

from mlship.project.paths import UNDOCUMENTED
from mlship.versioned import table_reader

AuditVerdict: TypeAlias = Literal["pass", "fail", "unknown", "not applicable"]
_WORST: tuple[AuditVerdict, ...] = ("fail", "unknown", "pass")
T = TypeVar("T")
_PATH = re.compile(r"/(?:[\w.-]+/)*[\w.-]+\.?[\w-]*")


@dataclass(frozen=True)
class AuditRule:
    """A row of data/audit.toml."""

    id: str
    title: str
    why: str
    fix: str
    source: str


@dataclass(frozen=True)
class KnownBase:
    """What is published of a base image; see data/audit.toml."""

    names: tuple[str, ...]
    source: str
    compilers: bool | None = None
    musl: bool | None = None
    tag: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    cuda: bool = False


@dataclass(frozen=True)
class Filler:
    """Commands that fill a cache, and what keeps it out of the layer; see data/audit.toml."""

    programs: tuple[str, ...]
    verbs: tuple[str, ...]
    removed: tuple[str, ...]
    mounted: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    cleaned: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Locker:
    program: str
    verbs: frozenset[str]
    options: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    verdict: Literal["pass", "fail", "unknown"] = "unknown"


@dataclass(frozen=True)
class _Compilers:
    installers: frozenset[str]
    packages: frozenset[str]
    programs: frozenset[str]


@dataclass(frozen=True)
class _CredentialNames:
    words: frozenset[str]
    public: frozenset[str]
    templates: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class AuditTable:
    """data/audit.toml."""

    rule: tuple[AuditRule, ...]
    base: tuple[KnownBase, ...]
    filler: tuple[Filler, ...]
    locker: tuple[_Locker, ...]
    compilers: _Compilers
    credentials: _CredentialNames
    releases: frozenset[str]
    logins: frozenset[str]
    known: tuple[str, ...]


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


def by_rule(*judges: Callable[[T], Iterator[AuditSeen]]) -> dict[str, Callable[[T], Iterator[AuditSeen]]]:
    """Functions by the names of the rules that they judge."""
    return {judge.__name__[1:].replace("_", "-"): judge for judge in judges}


def judgement(rule: AuditRule, seen: Iterable[AuditSeen]) -> Judgement:
    """The worst of what a rule saw; one that saw nothing does not apply."""
    seen = tuple(seen)
    verdict: AuditVerdict = next((one for one in _WORST if any(each.verdict == one for each in seen)), "not applicable")
    return Judgement(rule, verdict, tuple(dict.fromkeys(each for each in seen if each.verdict == verdict)) or seen)


def known_base(image: str) -> KnownBase | None:
    """What is published of an image, by its reference."""
    name, tag = split_reference(image)
    words = set(tag.replace(".", "-").split("-")) | {"alpine" for part in tag.split("-") if part.startswith("alpine")}
    rows = (row for row in audit_table().base if name in row.names and not words & set(row.without))
    return next((row for row in rows if not row.tag or words & set(row.tag)), None)


def split_reference(image: str) -> tuple[str, str]:
    """The name of an image as Docker Hub shows it, and its tag; empty without one."""
    rest = image.partition("@")[0]
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    for prefix in ("docker.io/", "index.docker.io/", "mirror.gcr.io/", "public.ecr.aws/docker/", "library/"):
        name = name.removeprefix(prefix)
    return name, tag


def is_credential_name(name: str) -> bool:
    """Whether a variable's name says that it holds a credential."""
    table = audit_table().credentials
    words = set(name.lower().replace("-", "_").split("_"))
    return bool(words & table.words) and name.upper() not in table.public and "public" not in words


def may_hold_credentials(file: str) -> bool:
    """Whether files of this name often hold credentials in formats that are not published; templates do not."""
    templates = audit_table().credentials.templates
    is_named, is_template = (any(fnmatch(file, one) for one in rows) for rows in (UNDOCUMENTED, templates))
    return is_named and not is_template


def is_credential(name: str, value: str | None) -> bool:
    """Whether a variable holds a credential, by its name; None is a value that is not known. A path holds none."""
    return value != "" and is_credential_name(name) and not _PATH.fullmatch(value or "")


def verb(arguments: tuple[str, ...]) -> str:
    """The first argument that is neither an option nor the value of one (`apt-get -o Acquire::Retries=3 update`)."""
    words = (word for before, word in zip(("", *arguments), arguments, strict=False) if before != "-o")
    return next((word for word in words if not word.startswith("-")), "")
