import pytest

from mlship.redact import has_credentials, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://u:p@host/x and http://t@h", "at https://***@host/x and http://***@h"),
        ("GET https://__token__:pypi-Ag@host:8443/simple", "GET https://***@host:8443/simple"),
        ("git clone https://ghp_token@github.com/a/b", "git clone https://***@github.com/a/b"),
        ("https://u:it's@host/", "https://***@host/"),
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
    ],
)
def test_other_text_stays(text: str) -> None:
    assert not has_credentials(text)
    assert redact(text) == text
