"""From what was observed to what is proven. Pure."""

from mlship.project.commands import is_shell
from mlship.smoke.events import Begin, Done, Latency, MemoryUse, Modules, StageName, Warm
from mlship.smoke.judge.checks import failed, passed, warned
from mlship.smoke.judge.gpu import gpu_used, gpu_visible
from mlship.smoke.judge.model import model_checks
from mlship.smoke.judge.serve import first_ok, serve_checks
from mlship.smoke.observed import ModelRun, Observed, ServeRun, all_of, first_of
from mlship.smoke.result import Check, Figures


def judge(observed: Observed) -> tuple[tuple[Check, ...], Figures]:
    """All checks, in the order in which things happen, and the figures."""
    checks = (
        _user(observed),
        _command(observed),
        *gpu_visible(observed),
        *model_checks(observed),
        *gpu_used(observed),
        *serve_checks(observed),
    )
    return checks, figures(observed)


def figures(observed: Observed) -> Figures:
    """What was measured."""
    model, serve = observed.model, observed.serve
    warm, latency = first_of(Warm, model.events), first_of(Latency, model.events)
    memory, modules = first_of(MemoryUse, model.events), first_of(Modules, model.events)
    asked = first_of(Latency, serve.events) if serve else None
    return Figures(
        import_s=_seconds("import", model),
        load_s=_seconds("load", model),
        first_s=warm.first if warm else None,
        p50_s=latency.p50 if latency else None,
        p99_s=latency.p99 if latency else None,
        runs=latency.runs if latency else None,
        peak_memory=memory.peak if memory else None,
        weights=memory.weights if memory else None,
        private_over_weights=_private_over_weights(memory),
        left_out=modules.left_out if modules else None,
        live_s=_since_start("live", serve),
        ready_s=_since_start("ready", serve),
        answer_s=asked.p50 if asked else None,
        exit_s=serve.exit_s if serve else None,
    )


def _user(observed: Observed) -> Check:
    user = observed.image.user.partition(":")[0]
    begin = first_of(Begin, observed.model.events)
    if user in ("", "0", "root") or (begin is not None and begin.uid == 0):
        return failed(
            "image.user",
            "it runs as root",
            "end the Dockerfile with a numeric user that owns nothing: USER 1001:1001 (`mlship build` does so)",
        )
    if not user.isdecimal():
        return warned(
            "image.user",
            f"the user is a name, {user}",
            "give its number, such as USER 1001:1001: Kubernetes cannot tell from a name that it is not root "
            "(runAsNonRoot refuses the image)",
        )
    return passed("image.user", f"user {user}")


def _command(observed: Observed) -> Check:
    command = observed.image.command
    if not command:
        return failed("image.command", "the image has no command", "end the Dockerfile with CMD [...]: your server")
    if is_shell(command) and "-c" in command[1:2]:
        return warned(
            "image.command",
            f"{command[0]} -c starts it",
            'write the command in exec form, CMD ["program", "argument"]: a shell keeps SIGTERM to itself',
        )
    return passed("image.command", command[0])


def _seconds(stage: StageName, run: ModelRun) -> float | None:
    return next((event.seconds for event in all_of(Done, run.events) if event.stage == stage), None)


def _private_over_weights(memory: MemoryUse | None) -> float | None:
    if memory is None or memory.before is None or memory.after is None or memory.weights == 0:
        return None
    return max(0, memory.after - memory.before) / memory.weights


def _since_start(probe: str, run: ServeRun | None) -> float | None:
    found = first_ok(run, probe) if run else None
    return run.since_start(found) if run and found else None
