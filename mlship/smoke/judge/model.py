"""What the model's part proves. Pure: observations in, checks out."""

from mlship.smoke import output
from mlship.smoke.events import Failed, StageName
from mlship.smoke.remedy import advise, how_ended, remedy_for_end
from mlship.smoke.result import Check, failed, fix, passed, skipped, warned
from mlship.smoke.seen import Observed
from mlship.smoke.spec import SmokeSpec
from mlship.units import count_of, duration, few, size

SLOW_JIT = 5.0  # seconds
_WHERE: dict[StageName, str] = {
    "import": "while importing {module}",
    "load": "in {function}()",
    "warm": "while answering the sample",
    "answer": "while reading the answer",
    "measure": "while answering the sample repeatedly",
}


def model_checks(observed: Observed) -> tuple[Check, ...]:
    """All checks of the model's part, in chronological order."""
    if observed.spec.load is None:
        return (skipped("model.load", "mlship.yaml has no `model.load`: the server alone is tested"),)
    return (
        _done("model.import", "import", observed),
        _done("model.load", "load", observed),
        _warm(observed),
        _finite(observed),
        _shape(observed),
        _golden(observed),
        _any_user(observed),
        _compiled(observed),
        *_jit(observed),
        _memory(observed),
    )


def _done(check: str, stage: StageName, observed: Observed) -> Check:
    done = observed.model.done(stage)
    return _stage(check, stage, observed) or passed(check, duration(done.seconds) if done else "")


def _warm(observed: Observed) -> Check:
    warm, latency = observed.model.warm, observed.model.latency
    broken = _stage("model.warm", "warm", observed)
    if broken is None and observed.model.done("answer"):
        broken = _stage("model.warm", "measure", observed)
    if broken or warm is None:
        return broken or skipped("model.warm", "not reached")
    then = f", then {duration(latency.p50)} (p99 {duration(latency.p99)})" if latency else ""
    return passed("model.warm", f"{duration(warm.first)}{then}")


def _stage(check: str, stage: StageName, observed: Observed) -> Check | None:
    """The check if its stage failed or was not reached; None if the stage succeeded.

    The first stage that is not done is the one that failed, begun or not: a program may be killed between two.
    """
    first = next((one for one in _WHERE if not observed.model.done(one)), None)
    if observed.model.done(stage):
        return None
    return _broken(check, stage, observed) if stage == first else skipped(check, "not reached")


def _broken(check: str, stage: StageName, observed: Observed) -> Check:
    run, spec = observed.model, observed.spec
    error = run.failed(stage)
    where = _where(stage, spec)
    if error is not None:
        seen = error.message if stage == "answer" else f"{error.type} {where}: {error.message}"
        return failed(check, seen, _for_error(error, observed), error.lines)
    if run.ended is None or any(line.startswith("Timeout (") for line in run.log):  # of faulthandler, at its limit
        seen = f"hangs {where}: not finished after {duration(spec.load_seconds)}"
        return failed(check, seen, fix("model.load", "hangs"), _stack(run.log))
    text = "\n".join(run.log)
    return failed(
        check,
        f"{how_ended(run.ended, spec)} {where}",
        advise(text, observed) or remedy_for_end(run.ended, spec),
        run.log,
    )


def _for_error(error: Failed, observed: Observed) -> str:
    spec = observed.spec
    text = f"{error.type}: {error.message} ({error.stage})"
    if error.stage == "warm" and spec.sample and error.file == spec.sample:
        return fix("model.warm", "no_sample", sample=spec.sample)
    if error.stage == "answer":
        return fix("model.finite", "type")
    module, function = spec.loader
    if error.type == "AttributeError" and error.message.endswith(f"has no attribute '{function}'"):
        return fix("model.load", "function", load=spec.load or "", module=module, function=function)
    if known := advise(text, observed, error.absent):
        return known
    if error.stage == "warm":
        where = f"it fails at {error.at}" if error.at else "the traceback shows where it fails"
        return fix("model.warm", "error", sample=str(spec.sample), where=where)
    where = f"at {error.at}" if error.at else "where the traceback points"
    return fix("model.load", "error", where=where, module=module, function=function)


def _where(stage: StageName, spec: SmokeSpec) -> str:
    module, function = spec.loader
    return _WHERE[stage].format(module=module, function=function)


def _stack(log: tuple[str, ...]) -> list[str]:
    """Where it hung, without mlship's own frames; the innermost call first."""
    start = max((i for i, line in enumerate(log) if line.startswith("Timeout (")), default=-1)
    return [line for line in log[start + 1 :] if '"<string>"' not in line and "<frozen" not in line]


def _finite(observed: Observed) -> Check:
    answer = observed.model.output
    if answer is None:
        return _stage("model.finite", "answer", observed) or skipped("model.finite", "not reached")
    count, bad = sum(1 for _ in output.numbers(answer.value)), output.not_finite(answer.value)
    if bad:
        path, value = bad[0]
        return failed(
            "model.finite",
            f"{len(bad)} of {count} numbers are not finite, the first is {value} at {path or 'the output'}",
            fix("model.finite", "not_finite"),
        )
    if count == 0:
        return warned("model.finite", "the answer contains no number", fix("model.finite", "no_number"))
    return passed("model.finite", count_of(count, "number"))


def _shape(observed: Observed) -> Check:
    answer, declared = observed.model.output, observed.spec.output_shape
    if declared is None or answer is None:
        return skipped("model.shape", "mlship.yaml has no `model.output_shape`" if declared is None else "not reached")
    found = list(output.arrays(answer.value))
    fitting = next((array for array in found if output.fits(array.shape, declared)), None)
    if fitting is None:
        return failed(
            "model.shape",
            f"declared {_dimensions(declared)}, found {', '.join(map(_described, found[:5])) or 'no array'}",
            fix("model.shape", "other"),
        )
    return passed("model.shape", _described(fitting))


def _described(array: output.Array) -> str:
    return f"{array.path} {_dimensions(array.shape)}".strip()


def _dimensions(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "ragged"
    return " x ".join("any" if size is None else str(size) for size in shape) or "a single value"


def _golden(observed: Observed) -> Check:
    answer, spec = observed.model.output, observed.spec
    if spec.golden is None or answer is None:
        return skipped("model.golden", "mlship.yaml has no `model.golden`" if spec.golden is None else "not reached")
    if not answer.golden:
        return failed("model.golden", f"{spec.golden} is not in the image", fix("model.golden", "absent"))
    found = output.deviation_from(answer.value, answer.golden[0], spec.rtol, spec.atol)
    if found.equal:
        away = f"at most {found.difference:.1e} away" if found.difference else "identical"
        return passed("model.golden", f"{count_of(found.numbers, 'number')}, {away}")
    seen = found.mismatch or (
        f"{found.off} of {found.numbers} numbers differ, the worst by {found.difference:.3g} "
        f"at {found.path or 'the output'} (rtol {spec.rtol:g}, atol {spec.atol:g})"
    )
    return failed("model.golden", seen, fix("model.golden", "other"))


def _any_user(observed: Observed) -> Check:
    """OpenShift, among others, gives each container a user of its own."""
    run = observed.by_any
    if run is None or observed.model.output is None:
        user = observed.image.user.partition(":")[0]
        numeric = user.isdecimal() and user != "0"
        why = "the pod ran as the image's own user" if numeric else "the image's user is no number"
        return skipped("model.any_user", "not reached" if run else why)
    if run.output is not None and run.begin:
        return passed("model.any_user", f"user {run.begin.uid}")
    broken = next((failed for stage in _WHERE if (failed := run.failed(stage))), None)
    seen = f"{broken.type}: {broken.message}" if broken else how_ended(run.ended, observed.spec) if run.ended else ""
    where = f" at {broken.at}" if broken and broken.at else ""
    return warned(
        "model.any_user",
        f"fails{where} as user {run.begin.uid if run.begin else 'unknown'} with group 0: {seen}".rstrip(": "),
        fix("model.any_user", "fails"),
    )


def _compiled(observed: Observed) -> Check:
    modules = observed.model.modules
    if modules is None:
        return skipped("model.compiled", "not reached")
    if not modules.uncompiled:
        return passed("model.compiled", "")
    return warned(
        "model.compiled",
        f"compiled at every start, since a read-only container cannot keep bytecode: {few(modules.uncompiled)}",
        fix("model.compiled", "uncompiled"),
    )


def _jit(observed: Observed) -> tuple[Check, ...]:
    """Only where numba compiles something: it is rarely used."""
    jit = observed.model.jit
    if jit is None:
        return ()
    count = count_of(len(jit.functions), "function")
    seen = f"{count} ({', '.join(jit.functions[:3])}), at least {duration(jit.seconds)}"
    if jit.seconds < SLOW_JIT:
        return (passed("model.jit", f"{seen} at every start, which is short"),)
    remedy = fix("model.jit", "cached")
    if not jit.cacheable:
        remedy = fix("model.jit", "no_cache", cached=remedy)
    return (
        warned("model.jit", f"compiled at every start, since a read-only container keeps no cache: {seen}", remedy),
    )


def _memory(observed: Observed) -> Check:
    memory, limit, ended = observed.model.memory, observed.spec.memory, observed.model.ended
    if memory is None and observed.model.done("measure") and (ended is None or ended.code != 0):
        return _broken("model.memory", "measure", observed)
    if memory is None:
        return skipped("model.memory", "not reached")
    if memory.peak is None:
        return skipped("model.memory", "/proc/self/status cannot be read in this container")
    seen = f"peak {size(memory.peak)} of {size(limit)}"
    if memory.peak > 0.9 * limit:
        return warned("model.memory", seen, fix("model.memory", "near"))
    return passed("model.memory", seen)
