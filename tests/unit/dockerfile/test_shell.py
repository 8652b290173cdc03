"""`replacement` against what real shells do."""

import subprocess
from itertools import product
from pathlib import Path

import pytest

from mlship.dockerfile.shell import commands, replacement

_PARTS = (
    *("true", "false", "SERVER", "exec SERVER", "(exec SERVER)", "{ exec SERVER; }", "exec > /dev/null", "(true)"),
    *("echo 'a; exec SERVER'", "if true; then exec SERVER; fi", "f() { exec SERVER; }", "true # exec SERVER"),
)
_JOINS = (" && ", " || ", " | ", "; ", " & ", "\n", " &&\n")
_ENDS = ("", "\n", " | cat", " &", " & wait", " || true")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_that_is_replaced_becomes_the_server(shell: str, tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.write_text("#!/bin/sh\necho $$ >&2\n")
    server.chmod(0o755)
    pairs = (*_PARTS, *(f"{first}{join}{second}" for first, join, second in product(_PARTS, _JOINS, _PARTS)))
    scripts = [script for pair, end in product(pairs, _ENDS) if (replacement(script := pair + end) or ())[1:]]
    replaced = 0
    for script in scripts:
        with subprocess.Popen(
            [shell, "-c", script.replace("SERVER", str(server))], stderr=-1, stdout=-3, text=True
        ) as run:
            pids = [int(line) for line in run.communicate()[1].splitlines() if line.isdigit()]
        assert not pids or run.pid in pids, script
        replaced += run.pid in pids
    assert replaced > 100


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exec a || true", ("exec", "a")),
        ("cd x || exit 1; exec a && b;\n", ("exec", "a")),
        ("(x)\nb & exec 'a b' > log 2>&1 # c", ("exec", "a b")),
        ("case x in\na) b;; esac\nexec a\n\n", ("exec", "a")),
        ("\n\nexec a", ("exec", "a")),
        ("exec a | tee log", None),
        ("exec a |& tee log", None),
        ("exec a & wait", None),
        ("exec a &", None),
        ("b || exec a", None),
        ("b | exec a", None),
        ("echo 'a; exec b'", None),
        ("(b; exec a\n)", None),
        ("f() exec a", None),
        ("&&", None),
        ("", None),
    ],
)
def test_what_replaces_a_shell(script: str, words: tuple[str, ...] | None) -> None:
    assert replacement(script) == words


@pytest.mark.parametrize(
    "script",
    [
        "timeout -k 5 60 pip install x", "env -u B A=b pip install x", "exec -a name pip install x",
        "sudo -u a pip install x",
        "nice -n 5 nohup time -p pip install x", "env -S 'A=b pip install' x", "gosu app pip install x",
    ],
)  # fmt: skip
def test_programs_that_run_their_arguments_are_not_the_command(script: str) -> None:
    assert [command.words for command in commands(script, lambda _name: None)] == [("pip", "install", "x")]


@pytest.mark.parametrize(
    ("script", "programs"),
    [
        ("a <<EOF\nb x\nEOF\nc", ["a", "c"]),
        ("cat <<-'E F' > f\n\tb\n\tE F\nc", ["cat", "c"]),
        ("a <<A b <<B && d\nx\nA\ny\nB\nc", ["a", "d", "c"]),
        ("bash <<E\nb x\nE\nc", ["bash", "c", "b"]),
        ("cat <<E | sh\nb x\nE\n", ["cat", "sh", "b"]),
        ("a <<< b\nc", ["a", "c"]),
        ("a <<E\nb", ["a"]),
        ("for a in b c; do d; done", ["d"]),
        ("su app -c 'a; b' && c", ["a", "b", "c"]),
        ("eval a b; c", ["a", "c"]),
    ],
)
def test_a_here_document_is_no_command_unless_a_shell_reads_it(script: str, programs: list[str]) -> None:
    assert [one.program for one in commands(script)] == programs
