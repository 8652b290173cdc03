"""What the server's part proves. Pure: observations in, checks out."""

import re
from collections.abc import Sequence

from mlship.project.commands import is_shell
from mlship.smoke import output
from mlship.smoke.events import Latency, RequestKind, RouteChange, ServerResponse
from mlship.smoke.judge.reply import describe_reply, described, proves_more_than_status, status_text, unexpected
from mlship.smoke.remedy import advise, how_ended, remedy_for_end
from mlship.smoke.result import Check, failed, fix, passed, skipped, titles, warned
from mlship.smoke.seen import Observed, ServeRun
from mlship.smoke.spec import SmokeSpec
from mlship.units import duration

SLOW_START = 5.0  # seconds; kubelet usually allows a few failed liveness probes, seconds apart
TOGETHER = 0.5
FIRST_RATIO = 1.5  # of the first request to the median of later ones
NOISE = 0.01  # seconds that a busy machine may add to a single request
_STOPPING = re.compile(r"Shutting down|[Aa]pplication shut|Finished server process|Handling signal: term|Worker exit")
_MALFORMED: dict[RequestKind, str] = {
    "half": "half a JSON text",
    "kind": "JSON of another kind",
    "empty": "an empty object",
    "garbage": "a file that is not of its kind",
    "nothing": "an empty body",
}


def serve_checks(observed: Observed) -> tuple[Check, ...]:
    """All checks of the server's part, in chronological order."""
    run = observed.serve
    if run is None:
        return tuple(
            skipped(check, "not run, since the model fails") for check in titles() if check.startswith("serve.")
        )
    return (
        _live(run, observed),
        _ready(run, observed),
        _first(run, observed),
        _predict(run, observed),
        _malformed(run, observed),
        _inflight(run, observed),
        _sigterm(run, observed),
    )


def _live(run: ServeRun, observed: Observed) -> Check:
    spec, live, ready = observed.spec, run.first_ok("live"), run.first_ok("ready")
    status = run.last_status("live")
    if live is None and ready is None and (run.died or status == 0):
        return skipped("serve.live", "the server did not answer")
    if live is None or (ready and not 200 <= status < 300):
        return failed(
            "serve.live",
            f"{spec.live} answers {status_text(status)}" + (f" when {spec.ready} answers 200" if ready else ""),
            (advise("\n".join(run.log), observed) if status >= 500 else None)
            or fix("serve.live", "no", live=spec.live),
        )
    since, apart = _since(run, live), fix("serve.live", "apart")
    if spec.live == spec.ready:
        seen = f"{since}; live and ready are the same route, {spec.live}"
        return warned("serve.live", seen, fix("serve.live", "one_route", apart=apart.capitalize()))
    if ready and run.since_start(live) > SLOW_START and ready.at - live.at < TOGETHER:
        return warned("serve.live", f"{since}, only once the model was loaded", fix("serve.live", "late", apart=apart))
    return passed("serve.live", since)


def _since(run: ServeRun, probe: RouteChange) -> str:
    return f"after {duration(run.since_start(probe))}"


def _ready(run: ServeRun, observed: Observed) -> Check:
    spec, ready = observed.spec, run.first_ok("ready")
    if ready is None:
        if run.died is None:
            return _never_ready(run, observed)
        seen = f"the server {how_ended(run.died, spec)} before it was ready"
        remedy = advise("\n".join(run.log), observed) or remedy_for_end(run.died, spec)
        return failed("serve.ready", seen, remedy, run.log)
    if run.since_start(ready) > spec.startup_seconds:
        seen = f"{_since(run, ready)} (limit {duration(spec.startup_seconds)})"
        return failed("serve.ready", seen, fix("serve.ready", "late"))
    if (pair := _latencies(run, spec)) and _is_cold(*pair):
        return failed(
            "serve.ready",
            f"reported ready before the model was warm: the first answer took {duration(pair[0])}, "
            f"later ones {duration(pair[1].p50)}",
            fix("serve.ready", "cold", ready=spec.ready),
        )
    return passed("serve.ready", _since(run, ready))


def _first(run: ServeRun, observed: Observed) -> Check:
    """One request of one process, so a slow one is a warning; one that later requests exceed, too, says nothing."""
    pair = _latencies(run, observed.spec)
    if pair is None or _is_cold(*pair):
        return skipped("serve.first", "not reached" if pair is None else "the server was not warm when it was ready")
    first, steady = pair
    seen = f"{first / steady.p50:.1f} times the median of later ones ({duration(steady.p50)})"
    slowest = max(steady.p99, steady.p50 + NOISE)  # of few requests, p99 is the slowest
    if first <= FIRST_RATIO * steady.p50:
        return passed("serve.first", seen)
    if first <= slowest:
        why = f"less than {duration(NOISE)} more" if first <= steady.p50 + NOISE else "as one of them"
        return passed("serve.first", f"{seen}, {why}")
    return warned("serve.first", f"{seen}, above {FIRST_RATIO}", fix("serve.ready", "cold", ready=observed.spec.ready))


def _latencies(run: ServeRun, spec: SmokeSpec) -> tuple[float, Latency] | None:
    """Seconds of the first request, and the latency of later ones; None if they were not measured."""
    first, steady = run.answer("first"), run.latency
    return (first.seconds, steady) if first and steady and first.status == spec.asked.status and steady.p50 else None


def _is_cold(first: float, steady: Latency) -> bool:
    return first > max(1.0, 10 * steady.p50)


def _never_ready(run: ServeRun, observed: Observed) -> Check:
    spec = observed.spec
    live, status = run.first_ok("live"), run.last_status("ready")
    cause = {0: "no_answer", 404: "not_found"}.get(status, "never")
    remedy = fix("serve.ready", cause, port=str(spec.port), ready=spec.ready)
    return failed(
        "serve.ready",
        f"not ready after {duration(spec.startup_seconds)}: {spec.ready} answers {status_text(status)}"
        f"{', ' + spec.live + ' answered 200' if live and spec.live != spec.ready else ''}",
        advise("\n".join(run.log), observed) or remedy,
        run.log,
    )


def _predict(run: ServeRun, observed: Observed) -> Check:
    first, steady = run.answer("first"), run.latency
    if first is None:
        return skipped("serve.predict", "not reached")
    bad = unexpected(first, observed.spec)
    if bad is not None:
        return failed("serve.predict", bad[0], _known(first, run, observed) or bad[1], _unstopped(run.log))
    if again := run.answer("again"):
        seen = f"the first request is answered {first.status}, a later one {describe_reply(again)}"
        remedy = remedy_for_end(run.died, observed.spec) if run.died else fix("serve.predict", "again")
        return failed("serve.predict", seen, _known(again, run, observed) or remedy, _unstopped(run.log))
    then = f", then {duration(steady.p50)} (p99 {duration(steady.p99)})" if steady else ""
    seen = described(first, observed.spec) + duration(first.seconds) + then
    if first.output and not observed.spec.asked.values and not any(output.numbers(list(first.output))):
        seen += f", without any number: {output.short(first.output[0])}"
        return warned("serve.predict", seen, fix("serve.predict", "no_number"))
    if not proves_more_than_status(first, observed.spec):
        return warned("serve.predict", f"{seen}; only its status was checked", fix("serve.predict", "status_only"))
    return passed("serve.predict", seen)


def _known(answer: ServerResponse, run: ServeRun, observed: Observed) -> str | None:
    """The fix if the server's lines say why it gave no answer, or 5xx."""
    return None if 0 < answer.status < 500 else advise("\n".join(run.log), observed)


def _unstopped(log: Sequence[str]) -> tuple[str, ...]:
    """The server's lines without those that follow from the test's own SIGTERM."""
    return tuple(line for line in log if not _STOPPING.search(line))


def _malformed(run: ServeRun, observed: Observed) -> Check:
    answers = [(name, found) for what, name in _MALFORMED.items() if (found := run.answer(what))]
    after, asked = run.answer("after"), observed.spec.asked
    if after is None or not answers:
        return skipped("serve.malformed", "not reached" if after is None else f"{asked.shown} sends no body")
    wrong = [(name, a) for name, a in answers if not _rejected(a) and not _mild(a)]
    seen = f"answers {', '.join(f'{name} with {status_text(a.status)}' for name, a in wrong)} instead of 4xx"
    if any(_is_json(a) or a.status == 0 for _, a in wrong):
        down = any(a.status == 0 or a.status >= 500 for _, a in wrong)
        return failed("serve.malformed", seen, fix("serve.malformed", "accepted"), _unstopped(run.log) if down else ())
    if after.status != asked.status:
        seen = f"after malformed requests the sample is answered {describe_reply(after)}"
        return failed("serve.malformed", seen, fix("serve.malformed", "state"), _unstopped(run.log))
    if wrong:
        return warned("serve.malformed", seen, fix("serve.malformed", "accepted"))
    mild = [name for name, a in answers if _mild(a)]
    if mild:
        return warned("serve.malformed", f"accepts {mild[0]} as a request", fix("serve.malformed", "mild"))
    return passed("serve.malformed", ", ".join(sorted({str(a.status) for _, a in answers})))


def _rejected(answer: ServerResponse) -> bool:
    """A page may send the browser back to its form."""
    return (400 if _is_json(answer) else 300) <= answer.status < 500


def _is_json(answer: ServerResponse) -> bool:
    """Whether the request was JSON, for which 4xx is the rule; forms and uploads of web pages answer as they like."""
    return answer.what in ("half", "kind", "empty")


def _mild(answer: ServerResponse) -> bool:
    """Whether it accepts what may be valid: an empty object, if all fields are optional; a form, shown again."""
    return answer.what in ("empty", "garbage", "nothing") and 200 <= answer.status < 300


def _inflight(run: ServeRun, observed: Observed) -> Check:
    stop, last, asked = run.stop, run.answer("inflight"), observed.spec.asked
    if run.answer("after") and stop and not stop.inflight:
        return skipped("serve.inflight", f"{asked.shown} sends no body that could be held back")
    if stop is None or not stop.inflight or run.died:
        return skipped("serve.inflight", "not reached")
    if last is None or last.status != asked.status:
        seen = f"a request in flight when SIGTERM came was answered {describe_reply(last) if last else 'nothing'}"
        return failed("serve.inflight", seen, fix("serve.inflight", "lost"), run.log)
    return passed("serve.inflight", f"answered {last.status}")


def _sigterm(run: ServeRun, observed: Observed) -> Check:
    spec = observed.spec
    if run.died:
        if run.first_ok("ready") is None:
            return skipped("serve.sigterm", "not reached")
        seen = f"the server {how_ended(run.died, spec)} before SIGTERM was sent"
        return failed("serve.sigterm", seen, remedy_for_end(run.died, spec), run.log)
    if run.ended is None or run.exit_s is None:
        seen = f"still running {duration(spec.grace_seconds)} after SIGTERM; an orchestrator would kill it"
        remedy = fix("serve.sigterm", _why_ignored(observed.image.command, run.log), port=str(spec.port))
        return failed("serve.sigterm", seen, remedy, run.log)
    if run.ended.code != 0:
        seen = f"{how_ended(run.ended, spec)}, {duration(run.exit_s)} after SIGTERM"
        return failed("serve.sigterm", seen, fix("serve.sigterm", "code"), run.log)
    return passed("serve.sigterm", f"after {duration(run.exit_s)} (limit {duration(spec.grace_seconds)})")


def _why_ignored(command: tuple[str, ...], log: Sequence[str]) -> str:
    if is_shell(command):
        return "shell"
    flask = any("werkzeug" in line or "This is a development server" in line for line in log)
    return "werkzeug" if flask else "ignored"
