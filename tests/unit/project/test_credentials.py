"""Credentials in the content of shipped files: found, named with their line, never shown, and not seen elsewhere."""

import base64
import json
import os
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project.credentials import check_credentials, check_values, find_credentials
from tests.helpers.planted import PLANTED, planted


def kinds(text: str | bytes) -> list[str]:
    return [each.what for each in find_credentials(text.encode() if isinstance(text, str) else text)]


@pytest.mark.parametrize("name", PLANTED)
def test_each_kind_is_found(name: str) -> None:
    for seed in range(5):
        assert kinds(planted(name, seed)), name


@pytest.mark.parametrize("name", sorted(PLANTED.keys() - {"tfstate"}))  # that one is a whole file
def test_it_is_found_anywhere_in_a_file_and_with_its_line(name: str) -> None:
    text = planted(name, 1)
    found = list(find_credentials(f"import os\n\n# {'x = 1 ' * 50}\n\n{text}\nprint('done')\n".encode()))
    assert 5 <= found[0].line <= 5 + text.count("\n")


def test_text_in_utf_16_is_read() -> None:
    assert kinds(planted("github", 1).encode("utf-16"))


def _random(letters: str, length: int) -> str:
    return "".join(random.Random(length).choices(letters, k=length))


HARMLESS: dict[str, Callable[[], str]] = {
    "documented example": lambda: "AKIA" + "IOSFODNN7EXAMPLE",
    "placeholder": lambda: 'token = "hf_' + "x" * 34 + '"',
    "a header without a key": lambda: "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "a public key": lambda: f"-----BEGIN PUBLIC KEY-----\n{_random(string.ascii_letters, 64)}\n",
    "a certificate": lambda: f"-----BEGIN CERTIFICATE-----\n{_random(string.ascii_letters, 64)}\n",
    "hashes of a lock": lambda: "\n".join(f"    --hash=sha256:{_random('0123456789abcdef', 64)} \\" for _ in range(50)),
    "a commit": lambda: f"wandb @ git+https://github.com/wandb/wandb@{_random('0123456789abcdef', 40)}",
    "an address with a template": lambda: "postgresql://{user}:{password}@db.internal.net/x ${U}:${PASSWORD}",
    "an address of documentation": lambda: "postgres://user:password@db.acme.org redis://:secret123@cache.acme.org",
    "an address with a port and a path": lambda: "http://host.acme.org:8080/path@1 ssh://git@github.com:22/a@b.c",
    "a local address": lambda: "mongodb://root:Tr0ub4dor&3@localhost:27017 amqp://me:Tr0ub4dor&3@rabbit:5672",
    "a variable": lambda: "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
    "a notebook's image": lambda: base64.b64encode(random.Random(1).randbytes(60_000)).decode(),
    "a vocabulary": lambda: json.dumps({_random(string.ascii_letters + "Ġ_", 9) + str(n): n for n in range(99)}),
    "the token of jwt.io": lambda: jwt({"alg": "HS256"}, {"sub": "1234567890", "name": "John Doe"}),
    "an anonymous token": lambda: jwt({"alg": "HS256"}, {"role": "anon", "iss": "supabase"}),
    "not a token": lambda: "eyJ" + "a" * 40 + ".eyJ" + "b" * 40 + "." + "c" * 40,
    "a key of Firebase": lambda: f'apiKey: "AIza{_random(string.ascii_letters, 35)}", // firebase',
    "auth without a password": lambda: f'{{"auth": "{base64.b64encode(b"nothing here").decode()}"}}',
}  # fmt: skip


def jwt(header: object, claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part(header)}.{part(claims)}.{_random(string.ascii_letters, 43)}"


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_resembles_a_credential_is_not_found(name: str) -> None:
    assert kinds(HARMLESS[name]()) == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read(data: bytes) -> None:
    assert list(find_credentials(data)) == [] or b"" not in data


def test_binary_files_are_not_searched() -> None:
    assert kinds(b"\0" + planted("github", 1).encode()) == []


def refusal(repo: Path, *shipped: str, meant: tuple[str, ...] = ()) -> UsageError:
    with pytest.raises(UsageError) as caught:
        check_credentials(repo, shipped, meant)
    return caught.value


def test_the_file_is_named_and_the_value_is_not(tmp_path: Path) -> None:
    secret = planted("github", 1)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/settings.py").write_text(f"A = 1\nTOKEN = '{secret}'\n")
    error = refusal(tmp_path, "app")
    assert "`app/settings.py` line 2 (a GitHub token)" in error.message
    assert "allow_credentials: [app/settings.py]" in error.hint
    assert secret not in error.message + error.hint
    check_credentials(tmp_path, ("app",), ("app/settings.py",))


def test_many_files_are_counted(tmp_path: Path) -> None:
    for number in range(53):
        (tmp_path / f"{number}.txt").write_text(planted("github", number))
    assert refusal(tmp_path, ".").message.endswith("and 3 more files")


def test_what_is_left_out_is_not_read_and_a_pipe_does_not_block(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".git/config", ".env", "key.pem"):
        (tmp_path / name).write_text(planted("github", 1))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    check_credentials(tmp_path, (".",), ())


def test_values_of_the_configuration() -> None:
    check_values("mlship.yaml", '{"LOG_LEVEL": "info"}')
    with pytest.raises(UsageError, match=r"mlship.yaml would put a GitHub token into the image"):
        check_values("mlship.yaml", planted("github", 1))
