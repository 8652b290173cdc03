"""`mlship doctor`, and `mlship doctor explain ID`."""

import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mlship import __version__
from mlship.cli.options import Html, Json, only_one, save_page, show_result
from mlship.console import emit, say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.doctor.facts.facts import Facts

_Replay: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Diagnose a recorded facts file instead of this machine.")
]
_Record: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write the facts to FILE, with private data masked. Never overwrites a file."
    ),
]
_Root: TypeAlias = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Examine the files below DIR, such as another machine's disk. [default: /]",
        show_default=False,
        exists=True,
        file_okay=False,
        resolve_path=True,
    ),
]
doctor = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@doctor.callback()
def diagnose_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    ctx: typer.Context,
    replay: _Replay = None,
    image: Annotated[
        str | None, typer.Option(metavar="IMG", help="Also check whether this local image can use the GPU here.")
    ] = None,
    container: Annotated[str | None, typer.Option(metavar="NAME", help="Also check what this container sees.")] = None,
    pod: Annotated[
        str | None, typer.Option(metavar="[NAMESPACE/]NAME", help="Check this pod and its node, with kubectl.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Time limit of --image, --container and --pod.")
    ] = 30,
    record: _Record = None,
    root: _Root = Path("/"),
    facts_schema: Annotated[
        bool, typer.Option("--facts-schema", help="Print the JSON schema of facts files and exit.")
    ] = False,
    html: Html = None,
    masked: Annotated[
        bool, typer.Option("--mask", help="Mask private data in the report, as --record does in the facts.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every check and the time of each probe.")
    ] = False,
    json: Json = False,
) -> None:
    """Find why containers cannot use the GPU, and the fix. Exit code 1: a problem was found."""
    if ctx.invoked_subcommand is not None:
        return
    if facts_schema:
        _schema()
        return
    sources = _Sources(replay, root, image, container, pod, timeout)
    _check(sources, record, html)
    facts, unanswered = _seen(sources)
    if record is not None:
        _record(facts, record)
    if masked:
        facts = _masked(facts)
    host = "masked" if masked else _host_of(sources)
    if unanswered is not None:
        say(unanswered)
    _conclude(facts, html, host, verbose=verbose, json=json)
    if unanswered is not None:
        raise typer.Exit(1)


@doctor.command("explain")
def explain_diagnosis(
    diagnosis: Annotated[
        str | None, typer.Argument(metavar="ID", help="Diagnosis, such as nouveau-owns-gpu. [default: list all]")
    ] = None,
) -> None:
    """Explain one diagnosis, with its sources."""
    from difflib import get_close_matches

    from mlship.doctor.rules import RULES
    from mlship.report.doctor.text import stories_text, story_text

    if diagnosis is None:
        emit(stories_text(RULES))
        return
    rules = {rule.id: rule for rule in RULES}
    if diagnosis not in rules:
        close = get_close_matches(diagnosis, rules, n=1)
        raise UsageError(
            f"unknown diagnosis `{diagnosis}`",
            hint=f"did you mean `{close[0]}`?" if close else "run `mlship doctor explain` for a list",
        )
    emit(story_text(rules[diagnosis]))


@dataclass(frozen=True)
class _Sources:
    replay: Path | None
    root: Path
    image: str | None
    container: str | None
    pod: str | None
    seconds: float


def _check(sources: _Sources, *new: Path | None) -> None:
    """Reject options that exclude each other, and files that exist, before any probe runs."""
    from mlship.files import check_new

    if (sources.replay, sources.image, sources.container, sources.pod).count(None) < 3:
        options = "`--replay`, `--image`, `--container` and `--pod`"
        raise UsageError(f"{options} cannot be combined", hint="use one of them at a time")
    only_one({"--pod": sources.pod, "--root": sources.root != Path("/")})
    for path in new:
        if path is not None:
            check_new(path)


def _seen(sources: _Sources) -> tuple["Facts", str | None]:
    """The facts, and why a question that was asked has no answer."""
    if sources.replay is None:
        return _seen_pod(sources) if sources.pod else _looked(sources)
    from mlship.doctor.facts.replay import read_facts

    return read_facts(sources.replay), None


def _looked(sources: _Sources) -> tuple["Facts", str | None]:
    # Loading the rules takes as long as the probes, which mostly wait for other processes.
    Thread(target=_load_rules, daemon=True).start()
    from mlship.doctor.probes.base import Look
    from mlship.doctor.probes.run import check_requested, look, open_question
    from mlship.engine import connect_read_only, connect_to_container

    what = Look(sources.root, sources.image, sources.container, sources.seconds)
    check_requested(connect_to_container(what.container) if what.container else connect_read_only(), what)
    if asked := sources.image or sources.container:
        say(f"looking inside {asked}, for at most {sources.seconds:g} s")
    facts = look(what)
    why = open_question(what, facts)
    hint = f"allow more time with `--timeout {3 * sources.seconds:g}`"
    return facts, f"error: {why}\nhint: {hint}" if why else None


def _seen_pod(sources: _Sources) -> tuple["Facts", str | None]:
    """The pod and its node in the cluster, and this machine if it is that node."""
    from mlship.doctor.facts.fact import known
    from mlship.doctor.facts.facts import merge
    from mlship.doctor.probes.pod import look_at_pod

    say(f"asking the cluster about pod {sources.pod}, for at most {sources.seconds:g} s")
    facts = look_at_pod(sources.pod or "", sources.seconds)
    pod = known(facts.pod)
    if pod is None or known(pod.here) is not True:
        return replace(facts, mlship=__version__), None
    return merge((facts, _looked(sources)[0])), None


def _load_rules() -> None:
    from mlship.doctor import diagnose  # noqa: F401  for its imports
    from mlship.doctor.rule_texts import rule_texts

    rule_texts()


def _host_of(sources: _Sources) -> str:
    """The machine or the file that the facts describe."""
    if sources.replay is not None:
        return sources.replay.name
    if sources.pod is not None:
        return f"pod {sources.pod}"
    return platform.node() if sources.root == Path("/") else str(sources.root)


def _masked(facts: "Facts") -> "Facts":
    from mlship.doctor.mask import mask
    from mlship.doctor.probes.run import private_names

    return mask(facts, private_names())


def _record(facts: "Facts", path: Path) -> None:
    from mlship.files import save_new

    save_new(path, _masked(facts).to_json())
    say(f"wrote {path}; private data is masked, but review it before you send it")


def _conclude(facts: "Facts", html: Path | None, host: str, *, verbose: bool, json: bool) -> None:
    from mlship.doctor.diagnose import diagnose as conclude
    from mlship.report.doctor.page import PageHead, diagnosis_page
    from mlship.report.doctor.text import show_diagnosis

    diagnosis = conclude(facts)
    show_result(diagnosis, lambda one: show_diagnosis(one, verbose=verbose), json=json)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    save_page(html, lambda: diagnosis_page(diagnosis, PageHead(host, now)))
    if diagnosis.verdict == "problem":
        raise typer.Exit(1)


def _schema() -> None:
    import json

    from mlship.doctor.facts.schema import facts_schema

    emit(json.dumps(facts_schema(), indent=2))
