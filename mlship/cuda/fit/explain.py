"""From a refusal to an error: which hosts block and why, and the smallest changes that mend it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.check import Match
from mlship.cuda.fit.choose import Choice, choose
from mlship.cuda.fit.judge import Verdict
from mlship.cuda.fit.requested import Ask
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.errors import MatchError

_SHOWN = 5  # hosts or rows in one list
_RELEASES = 3  # in one row


def refuse_choice(choice: Choice, asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> MatchError:
    """Nothing that is asked for runs on every host."""
    named = {pick.package for pick in choice.refused}
    asked = tuple(ask for ask in asks if ask.name in named)
    blocked = tuple(verdict for pick in choice.refused for verdict in pick.blocked)
    if not blocked:
        majors = "; ".join(f"{pick.package}: CUDA {pick.built.major}" for pick in choice.refused)
        hint = "ask for releases of one CUDA major; `mlship hosts` shows which the hosts can run"
        return MatchError(f"what is asked for needs different CUDA majors, and an image has one ({majors})", hint=hint)
    listed = ", ".join(str(ask) for ask in asked) or ", ".join(sorted(named))
    others = "" if _strangers(fleet, platform) else _others(choice)
    message = f"no CUDA of {listed} runs on {_everywhere(fleet)}:{_rows(blocked)}{others}"
    return MatchError(message, hint=_hint(_mends(blocked, asked, fleet, platform)))


def refuse_match(match: Match, asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> MatchError:
    """What is locked does not run on every host, or is at fault itself."""
    if match.needs.problems:
        message = "\n".join(problem.text for problem in match.needs.problems)
        return MatchError(message, hint=_hint(problem.mend for problem in match.needs.problems))
    if match.missing:
        hint = "ask for the wheels that bring the libraries (such as onnxruntime-gpu[cuda,cudnn]), then `mlship lock`"
        return MatchError(f"{', '.join(match.needs.lacking)}: {match.missing}", hint=hint)
    message = f"what is locked does not run on {_everywhere(fleet)}:{_rows(match.blocked)}"
    return MatchError(message, hint=_hint(_mends(match.blocked, asks, fleet, platform)))


def _everywhere(fleet: Fleet) -> str:
    return f"every host of {fleet.origin}" if len(fleet.hosts) > 1 else f"the host of {fleet.origin}"


def _rows(blocked: Iterable[Verdict]) -> str:
    """One line a host: the reason that decides."""
    rows = list(dict.fromkeys(f"\n- {verdict.host}: {verdict.reasons[0].text}" for verdict in blocked))
    more = len(rows) - 2 * _SHOWN
    return "".join(rows[: 2 * _SHOWN]) + (f"\n- and {more} more" if more > 0 else "")


def _others(choice: Choice) -> str:
    """The candidates that are further from running, by the hosts that refuse them."""
    groups: dict[str, list[str]] = {}
    for pick in choice.others:
        groups.setdefault(_listed([verdict.host for verdict in pick.blocked]), []).append(str(pick))
    rows = [f"\n- {_listed(picks, _RELEASES)}: refused by {hosts}" for hosts, picks in groups.items()]
    return f"\nthat is the nearest; the others:{''.join(rows[:_SHOWN])}" if rows else ""


def _listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _hint(mends: Iterable[str]) -> str:
    """Each change alone is enough."""
    several = list(dict.fromkeys(mends)) or ["`mlship hosts` shows what each host offers: match it to other hosts"]
    return several[0] if len(several) == 1 else "one of these:" + "".join(f"\n- {mend}" for mend in several)


def _mends(blocked: tuple[Verdict, ...], asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> Iterator[str]:
    """The smallest change first: another release, then a driver, then forward compatibility, then two images."""
    if strangers := _strangers(fleet, platform):
        yield from _for_platform(strangers, fleet, platform)
        return
    yield from _other_release(asks, fleet, platform)
    yield from _driver(blocked)
    if all(any(reason.kind == "forward-compat-possible" for reason in verdict.reasons) for verdict in blocked):
        yield "ship NVIDIA's forward-compatibility libraries: `gpu: {forward_compat: true}` in mlship.yaml"
    if len(fleet.hosts) > 1:
        yield _two_images(blocked, asks, fleet, platform)
    elif not fleet.committed:
        yield "match it to other hosts: record them into hosts/, or name one by --driver and --compute-capability"


def _two_images(blocked: tuple[Verdict, ...], asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> str:
    """One image for the hosts that block and one for the others, where each of the two has a CUDA."""
    names = {verdict.host for verdict in blocked}
    parts = [replace(fleet, hosts=tuple(host for host in fleet.hosts if (host.name in names) == blocks))
             for blocks in (False, True)]  # fmt: skip
    choices = [choose(asks, part, platform) for part in parts]
    if any(choice.refused for choice in choices) or not all(part.hosts for part in parts):
        return f"leave {_listed(sorted(names))} out of {fleet.origin}"
    images = (f"for {_listed([host.name for host in part.hosts])} ({', '.join(map(str, choice.picks))})"
              for part, choice in zip(parts, choices, strict=True))  # fmt: skip
    return f"build two images, each from a folder of hosts of its own (`gpu: {{hosts: ...}}`): {'; '.join(images)}"


def _strangers(fleet: Fleet, platform: str) -> list[HostProfile]:
    return [host for host in fleet.hosts if host.platform != platform]


def _for_platform(strangers: Sequence[HostProfile], fleet: Fleet, platform: str) -> Iterator[str]:
    """An image is for one platform."""
    named = _listed([host.name for host in strangers])
    others = {host.platform for host in strangers}
    if len(strangers) < len(fleet.hosts):
        yield (
            f"build an image for each platform, each from a folder of hosts of its own (`gpu: {{hosts: ...}}`): leave "
            f"{named} out of {fleet.origin} for {platform}"
        )
    elif len(others) == 1:
        yield f"build the image for these hosts: `platform: {others.pop()}` in mlship.yaml, then `mlship lock`"
    else:
        yield f"name hosts of {platform} in {fleet.origin}: `mlship hosts record` on one of them"


def _other_release(asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> Iterator[str]:
    """What would be chosen if any release would do."""
    free = choose(tuple(replace(ask, specifier=SpecifierSet()) for ask in asks), fleet, platform)
    for pick in free.picks:
        where = f" from the wheel index {pick.variant}" if pick.indexed else f" ({pick.variant})"
        yield f"`mlship lock{fleet.options}` takes {pick.limit or pick.package}{where}, where requirements.in allows it"


def _driver(blocked: tuple[Verdict, ...]) -> Iterator[str]:
    """Only where a newer driver mends every host that blocks."""
    needed = {v.host: max((r.needs for r in v.reasons if r.needs), default=None) for v in blocked}
    hopeless = any(reason.outcome == "refused" and not reason.needs and reason.kind != "forward-compat-possible"
                   for verdict in blocked for reason in verdict.reasons)  # fmt: skip
    if not hopeless and all(needed.values()):
        yield "update the driver: " + _listed([f"{host} to >= {driver}" for host, driver in sorted(needed.items())])
