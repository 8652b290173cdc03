"""From a refusal to an error: which hosts block and why, and the smallest changes that mend it. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from mlship.cuda.asks import Ask
from mlship.cuda.check import Match
from mlship.cuda.choose import Choice, choose
from mlship.cuda.hosts import Fleet
from mlship.cuda.match import Verdict
from mlship.errors import MatchError

_SPLIT = "build an image for each of these kinds of host, from a folder of hosts of its own (`gpu: {hosts: ...}`)"


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
    message = f"no CUDA of {listed} runs on every host of {fleet.origin}:{_rows(blocked)}"
    return MatchError(message, hint=_hint(_mends(blocked, asked, fleet, platform)))


def refuse_match(match: Match, asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> MatchError:
    """What is locked does not run on every host, or is at fault itself."""
    if match.needs.problems:
        message = "\n".join(problem.text for problem in match.needs.problems)
        return MatchError(message, hint=_hint(problem.mend for problem in match.needs.problems))
    if match.missing:
        hint = "ask for the wheels that bring the libraries (such as onnxruntime-gpu[cuda,cudnn]), then `mlship lock`"
        return MatchError(f"{', '.join(match.needs.lacking)}: {match.missing}", hint=hint)
    message = f"what is locked does not run on every host of {fleet.origin}:{_rows(match.blocked)}"
    return MatchError(message, hint=_hint(_mends(match.blocked, asks, fleet, platform)))


def _rows(blocked: Iterable[Verdict]) -> str:
    """One line a host: the reason that decides."""
    return "".join(dict.fromkeys(f"\n- {verdict.host}: {verdict.reasons[0].text}" for verdict in blocked))


def _hint(mends: Iterable[str]) -> str:
    """Each change alone is enough."""
    several = list(dict.fromkeys(mends))
    return several[0] if len(several) == 1 else "one of these:" + "".join(f"\n- {mend}" for mend in several)


def _mends(blocked: tuple[Verdict, ...], asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> Iterator[str]:
    """The smallest change first: another release, then a driver, then forward compatibility, then two images."""
    yield from _other_release(asks, fleet, platform)
    yield from _driver(blocked)
    if all(any(reason.kind == "forward-compat-possible" for reason in verdict.reasons) for verdict in blocked):
        yield "ship NVIDIA's forward-compatibility libraries: `gpu: {forward_compat: true}` in mlship.yaml"
    if len(fleet.hosts) > 1:
        alone = (choose(asks, replace(fleet, hosts=(host,)), platform) for host in fleet.hosts)
        names = ", ".join(sorted({verdict.host for verdict in blocked}))
        yield _SPLIT if all(not choice.refused for choice in alone) else f"leave {names} out of {fleet.origin}"
    elif not fleet.committed:
        yield "match it to other hosts: record them into hosts/, or name one by --driver and --compute-capability"


def _other_release(asks: tuple[Ask, ...], fleet: Fleet, platform: str) -> Iterator[str]:
    """What would be chosen if any release would do."""
    free = choose(tuple(replace(ask, specifier=SpecifierSet()) for ask in asks), fleet, platform)
    for pick in free.picks:
        where = f" from the wheel index {pick.variant}" if pick.indexed else ""
        yield f"let {pick.limit or pick.package}{where} in: requirements.in must allow it, then `mlship lock` takes it"


def _driver(blocked: tuple[Verdict, ...]) -> Iterator[str]:
    """Only where a newer driver mends every host that blocks."""
    needed = {v.host: max((r.needs for r in v.reasons if r.needs), default=None) for v in blocked}
    hopeless = any(reason.outcome == "refused" and not reason.needs and reason.kind != "forward-compat-possible"
                   for verdict in blocked for reason in verdict.reasons)  # fmt: skip
    if not hopeless and all(needed.values()):
        yield "update the driver: " + ", ".join(f"{host} to >= {driver}" for host, driver in sorted(needed.items()))
