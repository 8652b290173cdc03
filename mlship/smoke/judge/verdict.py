"""Everything that the observations prove. Pure."""

from mlship.project.commands import is_shell
from mlship.smoke.events import MemoryUse, StageName
from mlship.smoke.judge.code import gpu_code
from mlship.smoke.judge.gpu import gpu_used, gpu_visible
from mlship.smoke.judge.model import model_checks
from mlship.smoke.judge.serve import serve_checks
from mlship.smoke.result import Check, Figures, failed, fix, passed, warned
from mlship.smoke.seen import ModelRun, Observed, ServeRun


def judge(observed: Observed) -> tuple[tuple[Check, ...], Figures]:
    """All checks in chronological order, and the figures."""
    checks = (
        _user(observed),
        _command(observed),
        *gpu_visible(observed),
        *model_checks(observed),
        *gpu_used(observed),
        *gpu_code(observed),
        *serve_checks(observed),
    )
    return checks, figures(observed)


def figures(observed: Observed) -> Figures:
    model, serve = observed.model, observed.serve
    warm, latency, memory, modules = model.warm, model.latency, model.memory, model.modules
    served = serve.latency if serve else None
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
        answer_s=served.p50 if served else None,
        exit_s=serve.exit_s if serve else None,
    )


def _user(observed: Observed) -> Check:
    user = observed.image.user.partition(":")[0]
    begin = observed.model.begin
    if user in ("", "0", "root") or (begin is not None and begin.uid == 0):
        return failed("image.user", "runs as root", fix("image.user", "root"))
    if not user.isdecimal():
        return warned("image.user", f"the user is a name, {user}", fix("image.user", "name"))
    return passed("image.user", f"user {user}")


def _command(observed: Observed) -> Check:
    command = observed.image.command
    if not command:
        return failed("image.command", "the image has no command", fix("image.command", "none"))
    if is_shell(command) and "-c" in command[1:2]:
        return warned("image.command", f"started through `{command[0]} -c`", fix("image.command", "shell"))
    return passed("image.command", command[0])


def _seconds(stage: StageName, run: ModelRun) -> float | None:
    done = run.done(stage)
    return done.seconds if done else None


def _private_over_weights(memory: MemoryUse | None) -> float | None:
    if memory is None or memory.before is None or memory.after is None or memory.weights == 0:
        return None
    return max(0, memory.after - memory.before) / memory.weights


def _since_start(probe: str, run: ServeRun | None) -> float | None:
    found = run.first_ok(probe) if run else None
    return run.since_start(found) if run and found else None
