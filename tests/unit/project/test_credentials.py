"""Credentials in the content of shipped files: found, named with their line, never shown, and not seen elsewhere."""

import base64
import gzip
import io
import json
import os
import random
import string
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project.credentials import check_credentials, check_values, find_credentials
from tests.helpers.planted import PLANTED, planted
from tests.helpers.sampling import examples


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
    assert 5 <= (found[0].line or 0) <= 5 + text.count("\n")


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


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read(data: bytes) -> None:
    assert list(find_credentials(data)) == [] or b"" not in data


def test_strings_of_binary_files_are_searched() -> None:
    (found,) = find_credentials(b"\0\1" + planted("github", 1).encode() + random.Random(1).randbytes(5000))
    assert (found.what, found.line) == ("a GitHub token", None)


@pytest.mark.parametrize("seed", range(20))
def test_weights_hold_nothing(seed: int) -> None:
    assert kinds(b"\0" + random.Random(seed).randbytes(1 << 17)) == []


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


def _tar(data: bytes, mode: Literal["w", "w:gz", "w:bz2", "w:xz"]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name in ("a.txt", "in/.env"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _zip(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.bin", bytes(40 << 10))
        archive.writestr("in/.env", data)
    return made.getvalue()


PACKED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a.zip": (_zip, "in/.env"),
    "a-1.0-py3-none-any.whl": (_zip, "in/.env"),
    "a.tar": (lambda data: _tar(data, "w"), "a.txt"),
    "a.tar.gz": (lambda data: _tar(data, "w:gz"), "a.txt"),
    "a.tar.bz2": (lambda data: _tar(data, "w:bz2"), "a.txt"),
    "a.tar.xz": (lambda data: _tar(data, "w:xz"), "a.txt"),
    "dump.sql.gz": (gzip.compress, "its content"),
}


@pytest.mark.parametrize("name", PACKED)
def test_archives_are_searched(tmp_path: Path, name: str) -> None:
    make, member = PACKED[name]
    secret = planted("github", 1)
    (tmp_path / name).write_bytes(make(f"x = 1\nTOKEN = '{secret}'\n".encode()))
    error = refusal(tmp_path, ".")
    assert f"`{name}` line 2 (a GitHub token, in `{member}`)" in error.message
    check_credentials(tmp_path, (".",), (name,))
    (tmp_path / name).write_bytes(make(b"nothing"))
    check_credentials(tmp_path, (".",), ())


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(sorted(PACKED)), st.data())
def test_any_damaged_archive_is_read(name: str, data: st.DataObject) -> None:
    whole = bytearray(PACKED[name][0](b"text" * 50))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] ^= 0xFF
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        check_credentials(Path(folder), (name,), ())


def test_a_bomb_is_read_in_part(tmp_path: Path) -> None:
    packer = zlib.compressobj(1, wbits=31)
    first, block = (packer.compress(bytes(10 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    (tmp_path / "bomb.gz").write_bytes(first + block * 19)
    started = time.process_time()
    check_credentials(tmp_path, (".",), ())
    assert time.process_time() - started < 1


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
