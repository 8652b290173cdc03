"""What a link of the chain of custody is, and what a look at it answers. The links are in mlship/data/chain.toml."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from mlship.doctor.finding import Decider, Where
from mlship.versioned import data_table

ChainState: TypeAlias = Literal["holds", "broken", "unknown", "not applicable"]


@dataclass(frozen=True)
class Symptom:
    """One visible failure, before its cause is known: an error code, a missing GPU, a framework on the CPU.

    Attributes:
        id: such as "cuda.init=999"; the links claim these, and rules name those that they explain.
        where: the place where it was seen; a finding on the host also explains those in the container.
        seen: in words.
    """

    id: str
    where: Where
    seen: str


@dataclass(frozen=True)
class Answer:
    """What a look at one link answers, apart from its symptoms.

    Attributes:
        say: what holds, which fact is missing, or why the link does not apply.
    """

    state: ChainState
    say: str = ""


it_holds = partial(Answer, "holds")
unknown = partial(Answer, "unknown")
not_applicable = partial(Answer, "not applicable")


@dataclass(frozen=True)
class LikelyCause:
    """What often breaks a link; mlship/data/chain.toml explains the keys."""

    say: str
    seen: tuple[str, ...] = ()
    text: str = ""
    when: str = ""


@dataclass(frozen=True)
class Link:
    """A row of mlship/data/chain.toml, which explains the keys."""

    id: str
    title: str
    expects: str
    causes: tuple[LikelyCause, ...]
    deciders: tuple[Decider, ...]
    claims: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    inside: str = ""
    on_host: str = ""
    proves: bool = False
    shows: Annotated[str, Field(exclude=True)] = ""


@cache
def links() -> tuple[Link, ...]:
    """The chain, the lowest link first."""
    return data_table(dict[str, tuple[Link, ...]], "chain")["links"]


@cache
def _by_id() -> dict[str, Link]:
    return {link.id: link for link in links()}


@cache
def lower_links(link_id: str) -> frozenset[str]:
    """Every link whose break also breaks this one."""
    direct = _by_id()[link_id].after
    return frozenset(direct).union(*(lower_links(one) for one in direct))


def reaches(lower: str, link_id: str, holding: frozenset[str]) -> bool:
    """A break of the lower link shows in this one: no link between proves otherwise."""
    if link_id == lower:
        return True
    between = lower_links(link_id) & holding
    return lower in lower_links(link_id) and not any(lower in lower_links(one) for one in between)


@cache
def place_of(link_id: str, where: Where) -> str:
    """The link itself, or the one that stands for it in this place."""
    link = _by_id()[link_id]
    return (link.inside if where == "container" else link.on_host) or link_id


@cache
def link_of(symptom_id: str, where: Where) -> str:
    """The link that a symptom breaks; inside a container, first one that is only there."""
    inside = [link for link in links() if link.on_host and where == "container"]
    there = (*inside, *(link for link in links() if not link.on_host))
    return place_of(next(link for link in there if matches_any(link.claims, symptom_id)).id, where)


def matches_any(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
