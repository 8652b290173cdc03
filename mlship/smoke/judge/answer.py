"""What the model's answer to the sample proves. Pure."""

from mlship.smoke import output
from mlship.smoke.events import Output
from mlship.smoke.result import Check, failed, fix, passed, skipped, warned
from mlship.smoke.spec import SmokeSpec
from mlship.units import count_of

_NO_SHAPE = "mlship.yaml has no `model.output_shape`"
_NO_GOLDEN = "mlship.yaml has no `model.golden`"


def answer_checks(answer: Output, spec: SmokeSpec) -> tuple[Check, ...]:
    """Whether it is finite, has the declared shape and equals the recorded one."""
    return (_finite(answer), _shape(answer, spec), _golden(answer, spec))


def unanswered(unread: Check | None, spec: SmokeSpec) -> tuple[Check, ...]:
    """The same checks without an answer; `unread` if there was one that could not be read."""
    return (
        unread or skipped("model.finite", "not reached"),
        skipped("model.shape", _NO_SHAPE if spec.output_shape is None else "not reached"),
        skipped("model.golden", _NO_GOLDEN if spec.golden is None else "not reached"),
    )


def _finite(answer: Output) -> Check:
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


def _shape(answer: Output, spec: SmokeSpec) -> Check:
    if spec.output_shape is None:
        return skipped("model.shape", _NO_SHAPE)
    found = list(output.arrays(answer.value))
    fitting = next((array for array in found if output.fits(array.shape, spec.output_shape)), None)
    if fitting is None:
        return failed(
            "model.shape",
            f"declared {_dimensions(spec.output_shape)}, found {', '.join(map(_described, found[:5])) or 'no array'}",
            fix("model.shape", "other"),
        )
    return passed("model.shape", _described(fitting))


def _described(array: output.Array) -> str:
    return f"{array.path} {_dimensions(array.shape)}".strip()


def _dimensions(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "ragged"
    return " x ".join("any" if size is None else str(size) for size in shape) or "a single value"


def _golden(answer: Output, spec: SmokeSpec) -> Check:
    if spec.golden is None:
        return skipped("model.golden", _NO_GOLDEN)
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
