"""Requests from their description: what is sent is what a server's own parser reads."""

import email.policy
import json
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.image.inside.request import HttpRequest, build, content_type, malformed
from tests.helpers.sampling import examples

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)
QUICK = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])


def request(**changed: object) -> dict[str, object]:
    return {"method": "POST", "path": "/predict", **changed}


def sent(**changed: object) -> HttpRequest:
    return build(request(**changed), {"TOKEN": "s3cret"})


def parsed(found: HttpRequest) -> dict[str, tuple[str | None, bytes]]:
    """File name and content by field, as a parser of MIME reads it."""
    head = f"Content-Type: {dict(found.headers)['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + (found.body or b""))
    return {
        str(part.get_param("name", header="content-disposition")): (
            part.get_filename(),
            bytes(part.get_payload(decode=True) or b""),
        )
        for part in message.iter_parts()
    }


@QUICK
@given(form=st.dictionaries(NAME, TEXT, max_size=3), content=st.binary(max_size=60))
def test_uploads_arrive_as_they_are(form: dict[str, str], content: bytes, tmp_path: Path) -> None:
    content = content.replace(b"\r", b"").replace(b"\n", b"")  # the parser of mails changes line ends, servers do not
    (tmp_path / "cat.png").write_bytes(content)
    form = {f"f{name}": text for name, text in form.items()}
    found = parsed(sent(form=form, files={"image": str(tmp_path / "cat.png")}))
    assert found == {
        **{name: (None, text.encode()) for name, text in form.items()},
        "image": ("cat.png", content),
    }


@QUICK
@given(contents=st.lists(st.sampled_from([b"mlship-boundary-0", b"mlship-boundary-1", b"--"]), max_size=3))
def test_the_boundary_is_in_no_part(contents: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"-".join(contents))
    assert parsed(sent(files={"a": str(tmp_path / "a.bin")}))["a"] == ("a.bin", b"-".join(contents))


@given(st.dictionaries(TEXT, TEXT, min_size=1, max_size=4), st.dictionaries(TEXT, TEXT, max_size=4))
def test_forms_and_queries_arrive_as_they_are(form: dict[str, str], query: dict[str, str]) -> None:
    found = sent(form=form, query=query)
    assert dict(found.headers) == {"Content-Type": "application/x-www-form-urlencoded"}
    assert dict(parse_qsl((found.body or b"").decode(), keep_blank_values=True)) == form
    assert dict(parse_qsl(urlsplit(found.target).query, keep_blank_values=True)) == query
    assert found.target.isascii()


@given(st.text(st.characters(categories=["L", "N"]), max_size=8))
def test_paths_are_quoted_once(name: str) -> None:
    target = sent(path=f"/a/{name}/%20").target
    assert target.isascii()
    assert unquote(target) == f"/a/{name}/ "


@pytest.mark.parametrize("part", ["headers", "query", "form"])
def test_values_of_the_environment_are_filled_in(part: str) -> None:
    found = sent(**{part: {"X": "Bearer ${TOKEN} ${OTHER}"}})
    text = f"{found.target} {found.headers} {found.body!r}"
    assert "s3cret" in text
    assert "TOKEN" not in text
    assert "OTHER" in text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.json", "application/json"),
        ("a.JPG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.wav", "audio/wav"),
        ("a.flac", "audio/flac"),
        ("a.txt", "text/plain"),
        ("a.unheard-of", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_name_decides_the_content_type(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"[1]")
    assert content_type(name) == kind
    assert dict(sent(body=str(tmp_path / name)).headers) == {"Content-Type": kind}
    assert dict(sent(body=str(tmp_path / name), headers={"content-type": "x/y"}).headers) == {"content-type": "x/y"}


def test_a_request_without_a_body_is_never_malformed() -> None:
    assert sent(method="GET").body is None
    assert list(malformed(request(method="GET"), {})) == []


def test_malformed_requests_differ_from_the_right_one_in_their_body(tmp_path: Path) -> None:
    for name, content in {"a.json": b'{"x": 1}', "a.png": b"png", "a.txt": b"text"}.items():
        (tmp_path / name).write_bytes(content)
    kinds: dict[tuple[str, ...], dict[str, object]] = {
        ("half", "kind", "empty"): {"body": str(tmp_path / "a.json")},
        ("garbage", "nothing"): {"body": str(tmp_path / "a.png")},
        ("nothing",): {"body": str(tmp_path / "a.txt")},
        ("garbage", "nothing", ""): {"files": {"image": str(tmp_path / "a.png")}, "form": {"size": "3"}},
        ("nothing", ""): {"form": {"size": "3"}},
    }
    for expected, parts in kinds.items():
        right, wrong = sent(**parts), dict(malformed(request(**parts), {}))
        assert tuple(wrong) == tuple(filter(None, expected))
        for found in wrong.values():
            assert found.body != right.body
            assert (found.method, found.target) == (right.method, right.target)


def test_malformed_json_is_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[1]")
    wrong = dict(malformed(request(body=str(tmp_path / "a.json")), {}))
    assert list(wrong) == ["half", "kind"]
    assert isinstance(json.loads(wrong["kind"].body or b""), dict)
