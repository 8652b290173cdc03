"""Whether the server's answer to the sample is the expected one. Pure."""

from mlship.json_path import values_at
from mlship.project.request import SampleRequest
from mlship.smoke import output
from mlship.smoke.events import ServerResponse
from mlship.smoke.result import fix
from mlship.smoke.spec import SmokeSpec
from mlship.units import size

_IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
Wrong = tuple[str, str]


def unexpected(answer: ServerResponse, spec: SmokeSpec) -> Wrong | None:
    """What is wrong with the answer, and what to do; None if it is as expected."""
    asked = spec.asked
    if answer.status != asked.status:
        return _other_status(answer, asked)
    return _type(answer, asked) or _image(answer, asked) or _json(answer, asked) or _content(answer, asked, spec)


def _other_status(answer: ServerResponse, asked: SampleRequest) -> Wrong:
    what = "`smoke.request` in mlship.yaml" if answer.status else "what the server's last lines show"
    expected = f" instead of {asked.status}" if asked.status != 200 else ""
    sample = f"with {asked.sends}" if asked.body or asked.form or asked.files else ""
    return (
        f"{asked.shown} {sample} answers {describe_reply(answer)}{expected}".replace("  ", " "),
        fix("serve.predict", "status", sends=asked.sends, path=asked.path, what=what),
    )


def _type(answer: ServerResponse, asked: SampleRequest) -> Wrong | None:
    wanted = asked.type
    if wanted is None or answer.type == wanted or (wanted.endswith("/*") and answer.type.startswith(wanted[:-1])):
        return None
    return f"the answer is {answer.type or 'of no content type'}, not {wanted}", fix("serve.predict", "type")


def _image(answer: ServerResponse, asked: SampleRequest) -> Wrong | None:
    seen = answer.image
    if not (asked.image or answer.type in _IMAGES) or (seen and not seen.problem):
        return None
    problem = f"{seen.format} image: {seen.problem}".removeprefix(" ") if seen else "it is JSON"
    return f"the answer is not a complete image ({problem})", fix("serve.predict", "image")


def _json(answer: ServerResponse, asked: SampleRequest) -> Wrong | None:
    if not answer.output:
        seen = f"the answer is not JSON: {answer.text[:80]}"
        return (seen, fix("serve.predict", "not_json")) if asked.expects_json else None
    if bad := output.not_finite(list(answer.output)):
        seen = f"the answer contains {bad[0][1]}, which is not JSON and which clients cannot parse"
        return seen, fix("serve.predict", "not_finite")
    if not (asked.values or asked.contains) and output.reports_failure(answer.output[0]):
        seen = f"answers {answer.status}, but with an error: {output.short(answer.output[0])}"
        return seen, fix("serve.predict", "error")
    return None


def _content(answer: ServerResponse, asked: SampleRequest, spec: SmokeSpec) -> Wrong | None:
    remedy = fix("serve.predict", "content")
    if answer.lacks:
        return f"the answer does not contain {answer.lacks[0]!r}", remedy
    for path, wanted in asked.values.items():
        found = values_at(answer.output[0], path) if answer.output else ()
        if not found:
            return f"the answer has nothing at {path}", remedy
        if wanted is not None and not output.deviation_from(found[0], wanted, spec.rtol, spec.atol).equal:
            return f"the answer has {output.short(repr(found[0]))} at {path}, not {output.short(repr(wanted))}", remedy
    return None


def proves_more_than_status(answer: ServerResponse, spec: SmokeSpec) -> bool:
    """Whether anything of the answer itself was checked."""
    asked = spec.asked
    return bool(answer.output or asked.contains or (answer.image and not answer.image.problem) or asked.type)


def described(answer: ServerResponse, spec: SmokeSpec) -> str:
    """What came, for a passed check: nothing for the usual JSON."""
    image = answer.image
    if image and not image.problem:
        return f"{image.format} of {image.width} x {image.height} pixels, "
    if answer.output and spec.request is None:
        return ""
    return f"{answer.type or 'no content type'}, {size(answer.size)}, "


def describe_reply(answer: ServerResponse) -> str:
    return f"{status_text(answer.status)}{': ' + answer.text[:120] if answer.text else ''}"


def status_text(status: int) -> str:
    return str(status) if status else "nothing"
