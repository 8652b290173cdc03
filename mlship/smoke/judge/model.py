"""What the model's part proves. Pure: observations in, checks out."""

from mlship.smoke.ending import for_end, how_ended
from mlship.smoke.events import Begin, Done, Failed, Latency, MemoryUse, Modules, Output, Stage, StageName, Warm
from mlship.smoke.gpu_seen import GpuBefore
from mlship.smoke.judge.answer import answer_checks, unanswered
from mlship.smoke.judge.checks import failed, passed, skipped, warned
from mlship.smoke.observed import ModelRun, Observed, all_of, first_of
from mlship.smoke.remedy import Situation, advise
from mlship.smoke.result import Check
from mlship.smoke.spec import SmokeSpec
from mlship.units import duration, size

_WHERE: dict[StageName, str] = {
    "import": "while importing {module}",
    "load": "in {function}()",
    "warm": "while answering the sample",
    "answer": "while reading the answer",
    "measure": "while answering the sample again and again",
}


def model_checks(observed: Observed) -> tuple[Check, ...]:
    """All checks of the model's part, in the order in which things happen."""
    return (
        _import(observed),
        _load(observed),
        _warm(observed),
        *_answer(observed),
        _compiled(observed),
        _memory(observed),
    )


def answered(run: ModelRun) -> bool:
    """The model got as far as an answer."""
    return first_of(Output, run.events) is not None


def _import(observed: Observed) -> Check:
    return _stage("model.import", ("import",), observed) or passed("model.import", _took("import", observed.model))


def _load(observed: Observed) -> Check:
    return _stage("model.load", ("load",), observed) or passed("model.load", _took("load", observed.model))


def _warm(observed: Observed) -> Check:
    events = observed.model.events
    warm, latency = first_of(Warm, events), first_of(Latency, events)
    broken = _stage("model.warm", ("warm",), observed)
    if broken is None and Stage("measure") in events:
        broken = _stage("model.warm", ("measure",), observed)
    if broken or warm is None:
        return broken or skipped("model.warm", "not reached")
    then = f", then {duration(latency.p50)} (p99 {duration(latency.p99)})" if latency else ""
    return passed("model.warm", f"{duration(warm.first)}{then}")


def _stage(check: str, stages: tuple[StageName, ...], observed: Observed) -> Check | None:
    """The check where one of its stages failed or was not reached; None where all are done."""
    run = observed.model
    done = {event.stage for event in all_of(Done, run.events)}
    begun = {event.stage for event in all_of(Stage, run.events)} or {"import"}  # what never began, failed to import
    for stage in stages:
        if stage in done:
            continue
        return _broken(check, stage, observed) if stage in begun else skipped(check, "not reached")
    return None


def _broken(check: str, stage: StageName, observed: Observed) -> Check:
    run, spec = observed.model, observed.spec
    error = next((event for event in all_of(Failed, run.events) if event.stage == stage), None)
    where = _where(stage, spec)
    if error is not None:
        seen = error.message if stage == "answer" else f"{error.type} {where}: {error.message}"
        return failed(check, seen, _for_error(error, observed), error.lines)
    if run.ended is None or _dumped(run.log):
        return failed(
            check,
            f"hangs {where}: no end after {duration(spec.load_seconds)}",
            "mend what it waits for (the last lines show where), "
            "or raise `smoke.timeout_seconds` in mlship.yaml where it is just slow",
            _stack(run.log),
        )
    text = "\n".join(run.log)
    return failed(
        check,
        f"{how_ended(run.ended, spec)} {where}",
        advise(text, situation(observed)) or for_end(run.ended, spec),
        run.log,
    )


def _for_error(error: Failed, observed: Observed) -> str:
    spec = observed.spec
    text = f"{error.type}: {error.message} ({error.stage})"
    if error.stage == "warm" and error.file == spec.sample:
        return f"add {spec.sample} to the image: name it under `model.sample` in mlship.yaml, then `mlship build`"
    if error.stage == "answer":
        return "let the predictor return numbers, lists, dicts, numpy arrays or torch tensors"
    module, _, function = spec.load.partition(":")
    if error.type == "AttributeError" and error.message.endswith(f"has no attribute '{function}'"):
        return f"mend `model.load` in mlship.yaml ({spec.load}): {module} has no {function}; then `mlship build`"
    known = advise(text, situation(observed))
    if known is None and error.stage == "warm":
        return (
            f"let the predictor take what {spec.sample} holds, or mend the sample; the traceback shows where it fails"
        )
    return known or (
        "mend it where the traceback points; without Docker the same is: "
        f'python -c "import {module}; {module}.{function}()"'
    )


def situation(observed: Observed) -> Situation:
    """Who and where, for the remedy."""
    begin, gpu = first_of(Begin, observed.model.events), first_of(GpuBefore, observed.model.events)
    return Situation(
        observed.spec,
        observed.image,
        begin.uid if begin else None,
        observed.device == "gpu",
        gpu.cuda.version if gpu else None,
    )


def _where(stage: StageName, spec: SmokeSpec) -> str:
    module, _, function = spec.load.partition(":")
    return _WHERE[stage].format(module=module, function=function)


def _dumped(log: tuple[str, ...]) -> bool:
    """The program ended itself since it took too long, and faulthandler said where."""
    return any(line.startswith("Timeout (") for line in log)


def _stack(log: tuple[str, ...]) -> list[str]:
    """Where it hung, without our own frames; the innermost call is the first."""
    start = max((i for i, line in enumerate(log) if line.startswith("Timeout (")), default=-1)
    return [line for line in log[start + 1 :] if '"<string>"' not in line and "<frozen" not in line]


def _took(stage: StageName, run: ModelRun) -> str:
    return next((duration(event.seconds) for event in all_of(Done, run.events) if event.stage == stage), "")


def _answer(observed: Observed) -> tuple[Check, ...]:
    answer, spec = first_of(Output, observed.model.events), observed.spec
    if answer is not None:
        return answer_checks(answer, spec)
    return unanswered(_stage("model.finite", ("answer",), observed), spec)


def _compiled(observed: Observed) -> Check:
    modules = first_of(Modules, observed.model.events)
    if modules is None:
        return skipped("model.compiled", "not reached")
    if not modules.uncompiled:
        return passed("model.compiled", "")
    named = ", ".join(modules.uncompiled[:3])
    more = f" and {len(modules.uncompiled) - 3} more" if len(modules.uncompiled) > 3 else ""
    return warned(
        "model.compiled",
        f"compiled again at every start, since a read-only container cannot keep it: {named}{more}",
        "`mlship lock --trace`, then `mlship build`: the server imports more than when it was traced",
    )


def _memory(observed: Observed) -> Check:
    memory, limit = first_of(MemoryUse, observed.model.events), observed.spec.memory
    if memory is None:
        return skipped("model.memory", "not reached")
    if memory.peak is None:
        return skipped("model.memory", "/proc/self/status cannot be read in this container")
    seen = f"peak {size(memory.peak)} of {size(limit)}"
    if memory.peak > 0.9 * limit:
        return warned("model.memory", seen, "raise `smoke.memory` in mlship.yaml, and the limit where it will run")
    return passed("model.memory", seen)
