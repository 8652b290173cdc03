"""What the server's part proves. Pure: observations in, checks out."""

from mlship.engine.base import ExitState
from mlship.project.commands import is_shell
from mlship.smoke import output
from mlship.smoke.events import Latency, RequestKind, RouteChange, ServerResponse
from mlship.smoke.judge.model import situation
from mlship.smoke.remedy import advise, how_ended, remedy_for_end
from mlship.smoke.result import Check, failed, passed, skipped, warned
from mlship.smoke.seen import Observed, ServeRun
from mlship.smoke.spec import SmokeSpec
from mlship.units import duration

IDS = ("serve.live", "serve.ready", "serve.predict", "serve.malformed", "serve.inflight", "serve.sigterm")
SLOW_START = 5.0  # seconds; kubelet usually allows a few failed liveness probes, seconds apart
TOGETHER = 0.5
_MALFORMED: dict[RequestKind, str] = {
    "half": "half a JSON text",
    "kind": "JSON of another kind",
    "empty": "an empty object",
}
_LOAD_APART = (
    "start listening first and load the model in a background thread: live answers 200 at once, "
    "ready 503 until the model is warm (the server of `mlship init` does so)"
)


def serve_checks(observed: Observed) -> tuple[Check, ...]:
    """All checks of the server's part, in chronological order."""
    run = observed.serve
    if run is None:
        return tuple(skipped(check, "not run, since the model fails") for check in IDS)
    return (
        _live(run, observed),
        _ready(run, observed),
        _predict(run, observed),
        _malformed(run),
        _inflight(run),
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
            f"{spec.live} answers {_status(status)}" + (f" when {spec.ready} answers 200" if ready else ""),
            f"let the server answer 200 on {spec.live} as soon as it listens, or fix `serve.live` in mlship.yaml",
        )
    since = _since(run, live)
    if spec.live == spec.ready:
        return warned(
            "serve.live",
            f"{since}; live and ready are the same route, {spec.live}",
            "an orchestrator cannot distinguish a loading server from one that hangs: it kills the first, or sends "
            f"requests to the second. {_LOAD_APART.capitalize()}",
        )
    if ready and run.since_start(live) > SLOW_START and ready.at - live.at < TOGETHER:
        return warned(
            "serve.live",
            f"{since}, only once the model was loaded",
            f"an orchestrator would consider it dead meanwhile and kill it: {_LOAD_APART}",
        )
    return passed("serve.live", since)


def _since(run: ServeRun, probe: RouteChange) -> str:
    return f"after {duration(run.since_start(probe))}"


def _ready(run: ServeRun, observed: Observed) -> Check:
    spec, ready = observed.spec, run.first_ok("ready")
    if ready is None:
        return _never_ready(run, observed) if run.died is None else _died(run.died, run, observed)
    if run.since_start(ready) > spec.startup_seconds:
        return failed(
            "serve.ready",
            f"{_since(run, ready)} (limit {duration(spec.startup_seconds)})",
            "raise `serve.startup_seconds` in mlship.yaml, or load faster",
        )
    first, steady = run.answer("first"), run.latency
    if first and steady and first.status == 200 and first.seconds > max(1.0, 10 * steady.p50):
        return failed(
            "serve.ready",
            f"reported ready before the model was warm: the first answer took {duration(first.seconds)}, "
            f"later ones {duration(steady.p50)}",
            f"load the model and run the sample through it before {spec.ready} answers 200",
        )
    return passed("serve.ready", _since(run, ready))


def _never_ready(run: ServeRun, observed: Observed) -> Check:
    spec = observed.spec
    live, status = run.first_ok("live"), run.last_status("ready")
    remedy = {
        0: f"let the server listen on 0.0.0.0:{spec.port} (`serve.port` in mlship.yaml)",
        404: f"let the server answer on {spec.ready}, or fix `serve.ready` in mlship.yaml",
    }.get(status, "fix what the server waits for, or raise `serve.startup_seconds` in mlship.yaml if it is just slow")
    return failed(
        "serve.ready",
        f"not ready after {duration(spec.startup_seconds)}: {spec.ready} answers {_status(status)}"
        f"{', ' + spec.live + ' answered 200' if live and spec.live != spec.ready else ''}",
        advise("\n".join(run.log), situation(observed)) or remedy,
        run.log,
    )


def _died(end: ExitState, run: ServeRun, observed: Observed) -> Check:
    remedy = advise("\n".join(run.log), situation(observed)) or remedy_for_end(end, observed.spec)
    return failed("serve.ready", f"the server {how_ended(end, observed.spec)} before it was ready", remedy, run.log)


def _predict(run: ServeRun, observed: Observed) -> Check:
    spec, first, steady = observed.spec, run.answer("first"), run.latency
    if first is None:
        return skipped("serve.predict", "not reached")
    bad = output.not_finite(list(first.output))
    if first.status != 200:
        return failed(
            "serve.predict",
            f"POST {spec.predict} with the sample answers {_described(first)}",
            f"let the server accept {spec.sample} on {spec.predict} as soon as it reports ready, "
            "or fix `serve.predict` in mlship.yaml",
            run.log,
        )
    if not first.output:
        return failed(
            "serve.predict", f"the answer is not JSON: {first.text[:80]}", "let the server answer in JSON", run.log
        )
    if bad:
        return failed(
            "serve.predict",
            f"the answer contains {bad[0][1]}, which is not JSON and which clients cannot parse",
            "let the server answer 500 if the model's output is not finite",
        )
    if not any(output.numbers(list(first.output))):
        return warned("serve.predict", "answered 200 without any number", "let the answer contain the model's scores")
    return passed("serve.predict", duration(first.seconds) + _then(steady))


def _then(steady: Latency | None) -> str:
    return f", then {duration(steady.p50)} (p99 {duration(steady.p99)})" if steady else ""


def _malformed(run: ServeRun) -> Check:
    answers = [(name, found) for what, name in _MALFORMED.items() if (found := run.answer(what))]
    after = run.answer("after")
    if not answers or after is None:
        return skipped("serve.malformed", "not reached")
    wrong = [f"{name} with {_status(a.status)}" for name, a in answers if not 400 <= a.status < 500 and not _mild(a)]
    if wrong:
        return failed(
            "serve.malformed",
            f"answers {', '.join(wrong)} instead of 4xx",
            "check the request before the model sees it, and answer 422 or 400: "
            "5xx makes clients retry and pages the on-call engineer",
            run.log if any(a.status == 0 or a.status >= 500 for _, a in answers) else (),
        )
    if after.status != 200:
        return failed(
            "serve.malformed",
            f"after malformed requests the sample is answered {_described(after)}",
            "do not let a bad request change the server's state",
            run.log,
        )
    mild = [name for name, a in answers if _mild(a)]
    if mild:
        return warned("serve.malformed", f"accepts {mild[0]} as a request", "reject it, unless all fields are optional")
    return passed("serve.malformed", ", ".join(sorted({str(a.status) for _, a in answers})))


def _mild(answer: ServerResponse) -> bool:
    """Whether it accepts an empty object: a valid request if all fields are optional."""
    return answer.what == "empty" and 200 <= answer.status < 300


def _inflight(run: ServeRun) -> Check:
    stop, last = run.stop, run.answer("inflight")
    if stop is None or not stop.inflight or run.died:
        return skipped("serve.inflight", "not reached")
    if last is None or last.status != 200:
        return failed(
            "serve.inflight",
            f"a request in flight when SIGTERM came was answered {_described(last) if last else 'nothing'}",
            "on SIGTERM stop listening, finish the requests in flight, then exit "
            "(uvicorn and gunicorn do so; a handler that calls sys.exit does not)",
            run.log,
        )
    return passed("serve.inflight", "answered 200")


def _sigterm(run: ServeRun, observed: Observed) -> Check:
    spec = observed.spec
    if run.died:
        ready = run.first_ok("ready")
        if ready is None:
            return skipped("serve.sigterm", "not reached")
        return failed(
            "serve.sigterm",
            f"the server {how_ended(run.died, spec)} before SIGTERM was sent",
            remedy_for_end(run.died, spec),
            run.log,
        )
    if run.ended is None or run.exit_s is None:
        return failed("serve.sigterm", *_ignored(spec, observed.image.command), run.log)
    if run.ended.code != 0:
        return failed(
            "serve.sigterm",
            f"{how_ended(run.ended, spec)}, {duration(run.exit_s)} after SIGTERM",
            "handle SIGTERM: finish, then exit with code 0; anything else looks like a crash to an orchestrator",
            run.log,
        )
    return passed("serve.sigterm", f"after {duration(run.exit_s)} (limit {duration(spec.grace_seconds)})")


def _ignored(spec: SmokeSpec, command: tuple[str, ...]) -> tuple[str, str]:
    seen = f"still running {duration(spec.grace_seconds)} after SIGTERM; an orchestrator would kill it"
    if is_shell(command):
        return seen, "a shell is the first process and does not forward SIGTERM: use the exec form, CMD [...]"
    return seen, (
        "let the first process handle SIGTERM (process 1 gets no default handler; "
        "a server that starts others needs an init such as tini), or raise `serve.grace_seconds` in mlship.yaml"
    )


def _described(answer: ServerResponse) -> str:
    return f"{_status(answer.status)}{': ' + answer.text[:120] if answer.text else ''}"


def _status(status: int) -> str:
    return str(status) if status else "nothing"
