"""What an answer of the server proves: it is as expected, or the check says how not."""

from dataclasses import replace

import pytest
from pydantic import JsonValue

from mlship.project.request import SampleRequest
from mlship.smoke.events import ImageSeen, ServerResponse, Stop
from mlship.smoke.judge.serve import serve_checks
from mlship.smoke.output import short
from mlship.smoke.result import Check
from mlship.smoke.seen import Observed
from tests.helpers.smoke_events import GOOD, answer, answers, served

UPLOAD = SampleRequest("POST", "/detect", files={"image": "cat.jpg"})
PAGE = SampleRequest("GET", "/")
PICTURE = ImageSeen("PNG", 640, 480, "")
CUT = ImageSeen("JPEG", 0, 0, "cut off")


def reply(output: JsonValue = None, **changed: object) -> ServerResponse:
    found = ServerResponse("first", 200, 0.1, () if output is None else (output,), "", "application/json", 20)
    return replace(found, **changed)  # type: ignore[arg-type]  # tests name fields


def observed(asked: SampleRequest, *events: ServerResponse, inflight: bool = True) -> Observed:
    stop = Stop(inflight=inflight)
    run = served()
    kept = tuple(event for event in run.events if not isinstance(event, ServerResponse | Stop))
    return replace(GOOD, spec=replace(GOOD.spec, request=asked), serve=replace(run, events=(*kept, *events, stop)))


def check(name: str, found: Observed) -> Check:
    return next(one for one in serve_checks(found) if one.id == name)


def predict(asked: SampleRequest, first: ServerResponse) -> Check:
    return check("serve.predict", observed(asked, first))


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ({"error": "Model not loaded"}, "fail"),
        ({"Error": {"message": "no such column"}}, "fail"),
        ({"errors": ["bad"], "prediction": None}, "fail"),
        ({"status": "error", "message": "shapes differ"}, "fail"),
        ({"success": False}, "fail"),
        ({"traceback": "File ..."}, "fail"),
        ({"error": {"code": 500, "message": "no model"}}, "fail"),
        ({"error": "no model", "status_code": 500}, "fail"),
        ({"error": {"mae": 0.1}}, "pass"),
        ({"code": 3, "message": "a label"}, "pass"),
        ({"error": 0.12}, "pass"),  # of a model
        ({"error": None, "scores": [0.5]}, "pass"),
        ({"success": True, "label": "cat"}, "warn"),
        ({"errors": [], "label": "error"}, "warn"),
        ({"result": "fail"}, "warn"),
        ("error", "warn"),
        (["error"], "warn"),
    ],
)
def test_an_error_in_an_answer_of_200_is_no_success(output: JsonValue, status: str) -> None:
    found = predict(UPLOAD, reply(output))
    assert found.status == status, found
    if status != "pass":
        assert short(output) in found.seen
        assert "smoke.request.expect" in found.remedy
    expected = replace(UPLOAD, values={"$": output})
    assert predict(expected, reply(output)).status == "pass"


@pytest.mark.parametrize(
    ("asked", "first", "seen"),
    [
        (replace(UPLOAD, values={"$.boxes[0].label": "cat"}), reply({"boxes": [{"label": "cat"}]}), "application/json"),
        (replace(UPLOAD, values={"$.score": 0.5}), reply({"score": 0.5 + 1e-6}), "application/json"),
        (replace(UPLOAD, values={"$.any": None}), reply({"any": [1]}), "application/json"),
        (replace(UPLOAD, image=True), reply(image=PICTURE, type="image/png"), "PNG of 640 x 480 pixels"),
        (replace(UPLOAD, type="image/*"), reply(image=PICTURE, type="image/png"), "PNG of 640 x 480 pixels"),
        (replace(PAGE, contains=("<form",)), reply(type="text/html"), "text/html, 20 B"),
        (replace(PAGE, status=302, type="text/html"), reply(status=302, type="text/html"), "text/html"),
        (UPLOAD, reply({"scores": [1.5]}), "application/json"),
    ],
)
def test_an_expected_answer_passes(asked: SampleRequest, first: ServerResponse, seen: str) -> None:
    found = predict(asked, first)
    assert (found.status, seen in found.seen) == ("pass", True), found


@pytest.mark.parametrize(
    ("asked", "first", "seen"),
    [
        (UPLOAD, reply(status=500, text="boom"), "POST /detect with a form with cat.jpg answers 500: boom"),
        (replace(PAGE, status=302), reply(), "GET / answers 200 instead of 302"),
        (PAGE, reply(status=0, text="no complete answer within 60 s"), "nothing: no complete answer within 60 s"),
        (replace(PAGE, type="text/html"), reply(type="text/plain"), "the answer is text/plain, not text/html"),
        (replace(PAGE, type="image/*"), reply(type=""), "the answer is of no content type, not image/*"),
        (replace(PAGE, contains=("<form",)), reply(lacks=("<form",)), "does not contain '<form'"),
        (replace(UPLOAD, image=True), reply(image=CUT), "not a complete image (JPEG image: cut off)"),
        (replace(UPLOAD, image=True), reply({"a": 1}), "not a complete image (it is JSON)"),
        (UPLOAD, reply(image=CUT, type="image/jpeg"), "not a complete image"),
        (replace(UPLOAD, values={"$.label": "cat"}), reply(text="<html>"), "the answer is not JSON: <html>"),
        (replace(UPLOAD, values={"$.label": "cat"}), reply({"label": "dog"}), "has 'dog' at $.label, not 'cat'"),
        (replace(UPLOAD, values={"$.score": 0.5}), reply({"score": 0.6}), "has 0.6 at $.score, not 0.5"),
        (replace(UPLOAD, values={"$.label": None}), reply({}), "has nothing at $.label"),
        (UPLOAD, reply({"score": float("nan")}), "the answer contains nan"),
    ],
)
def test_another_answer_fails_and_says_how(asked: SampleRequest, first: ServerResponse, seen: str) -> None:
    found = predict(asked, first)
    assert (found.status, seen in found.seen) == ("fail", True), found
    assert found.remedy


def test_an_answer_of_which_only_the_status_is_known_is_a_warning() -> None:
    found = predict(PAGE, reply(type="text/html"))
    assert found.status == "warn"
    assert "smoke.request.expect" in found.remedy


def test_a_get_request_has_nothing_malformed_and_nothing_to_hold_back() -> None:
    page = replace(PAGE, contains=("x",))
    found = observed(page, answer("first", 200), answer("after", 200), inflight=False)
    assert check("serve.malformed", found).seen == "GET / sends no body"
    assert check("serve.inflight", found).seen == "GET / sends no body that could be held back"
    assert check("serve.sigterm", found).status == "pass"


@pytest.mark.parametrize(
    ("garbage", "nothing", "status"),
    [(422, 400, "pass"), (302, 400, "pass"), (200, 400, "warn"), (500, 400, "warn"), (400, 0, "fail")],
)
def test_a_form_may_answer_as_it_likes_but_the_server_must_survive(garbage: int, nothing: int, status: str) -> None:
    events = (answer("first", 200), answer("garbage", garbage), answer("nothing", nothing), answer("after", 200))
    assert check("serve.malformed", observed(UPLOAD, *events)).status == status


def test_a_bad_upload_must_not_break_the_next_one() -> None:
    events = (answer("first", 200), answer("garbage", 500), answer("after", 500))
    assert check("serve.malformed", observed(UPLOAD, *events)).status == "fail"


def test_json_must_still_be_refused_with_4xx() -> None:
    usual = observed(SampleRequest("POST", "/p", "a.json"), *answers(kind=answer("kind", 302)))  # type: ignore[arg-type]
    assert check("serve.malformed", usual).status == "fail"
