"""Refusals as errors: which hosts block and why, and the smallest changes that help. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import Choice, PackageRequest, choose, cuda_extras
from mlship.cuda.fit.judge import Verdict, newer_drivers
from mlship.cuda.fit.needs import Needs
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.errors import MatchError
from mlship.units import few, first_rows

_SHOWN = 5  # hosts or rows in one list
_RELEASES = 3  # in one row
_OWN_FOLDER = "each from its own folder of hosts (`gpu: {hosts: DIR}` in mlship.yaml)"


def choice_error(choice: Choice, requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str) -> MatchError:
    """No combination of the requested packages runs on every host."""
    named = {pick.package for pick in choice.refused}
    wanted = tuple(request for request in requests if request.name in named)
    blocked = tuple(verdict for pick in choice.refused for verdict in pick.blocked)
    if not blocked:
        majors = "; ".join(f"{pick.package}: CUDA {pick.built.major}" for pick in choice.refused)
        hint = "require releases of one CUDA major; `mlship hosts` shows which ones the hosts can run"
        return MatchError(f"the requirements need different CUDA majors, but an image has one ({majors})", hint=hint)
    listed = ", ".join(f"`{request}`" for request in wanted) or ", ".join(f"`{name}`" for name in sorted(named))
    others = "" if _foreign(fleet, platform) else _others(choice)
    message = f"no CUDA build of {listed} runs on {_everywhere(fleet)}:{_rows(blocked)}{others}"
    return MatchError(message, hint=_hint(_remedies(blocked, wanted, fleet, platform)))


def match_error(
    needs: Needs,
    missing: str,
    blocked: tuple[Verdict, ...],
    requests: tuple[PackageRequest, ...],
    fleet: Fleet,
    platform: str,
) -> MatchError:
    """The lock does not run on every host, has a fault itself, or needs an image that is missing."""
    if needs.problems:
        message = "\n".join(problem.text for problem in needs.problems)
        return MatchError(message, hint=_hint(problem.hint for problem in needs.problems))
    if missing:
        hint = "require wheels that bring the libraries (such as `onnxruntime-gpu[cuda,cudnn]`) and run `mlship lock`"
        return MatchError(f"{', '.join(needs.lacking)}: {missing}", hint=hint)
    message = f"the lock does not run on {_everywhere(fleet)}:{_rows(blocked)}"
    return MatchError(message, hint=_hint(_remedies(blocked, requests, fleet, platform)))


def _everywhere(fleet: Fleet) -> str:
    return f"{'every' if len(fleet.hosts) > 1 else 'the'} host ({fleet.origin})"


def _rows(blocked: Iterable[Verdict]) -> str:
    """One line a host: the deciding reason."""
    rows = list(dict.fromkeys(f"\n- {verdict.host}: {verdict.reasons[0].text}" for verdict in blocked))
    return "".join(first_rows(rows, 2 * _SHOWN, "\n- and {} more"))


def _others(choice: Choice) -> str:
    """The other candidates, by the hosts that refuse them."""
    groups: dict[str, list[str]] = {}
    for pick in choice.others:
        groups.setdefault(few((verdict.host for verdict in pick.blocked), _SHOWN), []).append(str(pick))
    rows = [f"\n- {few(picks, _RELEASES)}: does not run on {hosts}" for hosts, picks in groups.items()]
    return f"\nthat is the nearest candidate; the others:{''.join(rows[:_SHOWN])}" if rows else ""


def _hint(remedies: Iterable[str]) -> str:
    """Each remedy is enough by itself."""
    several = list(dict.fromkeys(remedies)) or ["match other hosts; `mlship hosts` shows what each host offers"]
    return several[0] if len(several) == 1 else "do one of these:" + "".join(f"\n- {remedy}" for remedy in several)


def _remedies(
    blocked: tuple[Verdict, ...], requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str
) -> Iterator[str]:
    """The smallest change first: another release, then a driver, then forward compatibility, then two images."""
    if foreign := _foreign(fleet, platform):
        yield from _for_platform(foreign, fleet, platform)
        return
    yield from _other_release(requests, fleet, platform)
    if needed := newer_drivers(blocked):  # enough on every host that blocks
        yield "update the driver: " + few((f"{host} to >= {driver}" for host, driver in sorted(needed.items())), _SHOWN)
    if all(any(reason.kind == "forward-compat-possible" for reason in verdict.reasons) for verdict in blocked):
        yield "ship NVIDIA's forward-compatibility libraries: `gpu: {forward_compat: true}` in mlship.yaml"
    if len(fleet.hosts) > 1:
        yield _two_images(blocked, requests, fleet, platform)
    elif not fleet.committed:
        yield "match other hosts: record them in hosts/, or describe one with `--driver` and `--compute-capability`"


def _two_images(blocked: tuple[Verdict, ...], requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str) -> str:
    """One image for the hosts that block and one for the others, where a CUDA exists for both."""
    names = {verdict.host for verdict in blocked}
    parts = [replace(fleet, hosts=tuple(host for host in fleet.hosts if (host.name in names) == blocks))
             for blocks in (False, True)]  # fmt: skip
    choices = [choose(requests, part, platform) for part in parts]
    if any(choice.refused for choice in choices) or not all(part.hosts for part in parts):
        return f"remove {few(sorted(names), _SHOWN)} from {fleet.origin}"
    images = (f"for {few((host.name for host in part.hosts), _SHOWN)} ({', '.join(map(str, choice.picks))})"
              for part, choice in zip(parts, choices, strict=True))  # fmt: skip
    return f"build two images, {_OWN_FOLDER}: {'; '.join(images)}"


def _foreign(fleet: Fleet, platform: str) -> list[HostProfile]:
    return [host for host in fleet.hosts if host.platform != platform]


def _for_platform(foreign: Sequence[HostProfile], fleet: Fleet, platform: str) -> Iterator[str]:
    """An image is for one platform."""
    others = {host.platform for host in foreign}
    if len(foreign) < len(fleet.hosts):
        named = few((host.name for host in foreign), _SHOWN)
        yield f"build an image for each platform, {_OWN_FOLDER}: for {platform}, remove {named} from {fleet.origin}"
    elif len(others) == 1:
        yield f"build for these hosts: `platform: {others.pop()}` in mlship.yaml, then run `mlship lock`"
    else:
        yield f"add hosts of {platform} to {fleet.origin}: run `mlship hosts record` on one of them"


def _other_release(requests: tuple[PackageRequest, ...], fleet: Fleet, platform: str) -> Iterator[str]:
    """What would be chosen if the requirements allowed any release; if nothing, with other extras or without."""
    free = tuple(replace(request, specifier=SpecifierSet()) for request in requests)
    others = tuple(replace(each, extras=tuple(cuda_extras(each.name))) for each in free)
    bare = tuple(replace(each, extras=()) for each in free)
    asked = {request.name: request for request in requests}
    for pick in next((picks for each in (free, others, bare) if (picks := choose(each, fleet, platform).picks)), ()):
        limit, request, ours = pick.limit or pick.package, asked.get(pick.package), cuda_extras(pick.package)
        step = f"allow `{limit}`"
        if request and ours & {*request.extras} - {*pick.extras}:
            extras = tuple(sorted({*request.extras} - ours | {*pick.extras}))
            named = PackageRequest(pick.package, SpecifierSet(limit.removeprefix(pick.package)), extras)
            step = f"require `{named}` instead of `{request}`"
        build = f"{pick.variant} from the wheel index" if pick.indexed else pick.variant
        yield f"{step} in requirements.in and run `mlship lock{fleet.options}`, which takes its build {build}"
