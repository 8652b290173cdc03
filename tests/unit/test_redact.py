import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.redact import has_credentials, redact
from tests.helpers.sampling import examples


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://u:p@host/x and http://t@h", "at https://***@host/x and http://***@h"),
        ("GET https://__token__:pypi-Ag@host:8443/simple", "GET https://***@host:8443/simple"),
        ("git clone https://ghp_token@github.com/a/b", "git clone https://***@github.com/a/b"),
        ("https://u:it's@host/", "https://***@host/"),
        ("https://user:p@ss@host/x", "https://***@host/x"),
        ("https://user:pa/ss@host/x", "https://***@host/x"),
        ("fetch //u:pw@h/simple", "fetch //***@h/simple"),
        ("https://git@pw@h/simple", "https://***@h/simple"),
        ("https://git:pw@h/simple", "https://***@h/simple"),
        ("https://host/simple?token=abc&page=2", "https://host/simple?token=***&page=2"),
        ("https://host/x?a=1&X-Amz-Signature=ab%20c", "https://host/x?a=1&X-Amz-Signature=***"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert has_credentials(text)
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/simple/a@1.0",
        "FROM docker.io/library/python:3.11@sha256:00",
        "docker-image://docker.io/library/python:3.11@sha256:00",
        "mail me@example.com",
        "docker-image://python:3.11@sha256:00",
        "https://host:8443/simple/a@1.0",
        "https://host/simple?page=2#token",
        "a // b, c@d",
        "git+ssh://git@host/a/b.git",
        "ssh://git@host.example:22/a/b.git",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert not has_credentials(text)
    assert redact(text) == text


@pytest.mark.parametrize("header", ["Authorization: Bearer", "authorization: Basic", '"Authorization": "token'])
def test_headers_are_hidden(header: str) -> None:
    assert redact(f"> {header} c2VjcmV0, x") == f"> {header} ***, x"


WORDS = st.sampled_from(
    ["//", ":", "@", "/", "?", "&", "=", "a", "8", "token", "authorization", " ", "https://u:", "sha256:"]
)


@pytest.mark.slow
@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["@h", "", "=x "]))
@settings(max_examples=examples(25), deadline=None)
def test_long_lines_take_no_longer_than_their_length(words: list[str], end: str) -> None:
    """A pattern that looks back for each character would take hours."""
    redact("".join(words) * 5_000 + end)


@given(
    password=st.text("abc:@/?#%+-_=.~", min_size=1, max_size=12),
    host=st.sampled_from(["h.example", "h:8443", "10.0.0.1"]),
)
def test_no_password_of_an_address_is_left(password: str, host: str) -> None:
    shown = redact(f"pip install --index-url https://user:canary{password}@{host}/simple pkg")
    assert "canary" not in shown
    assert shown.startswith("pip install --index-url https://***@")
