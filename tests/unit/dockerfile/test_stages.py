"""The parser of Dockerfiles reads what BuildKit reads, and never guesses."""

import shlex
from contextlib import suppress
from posixpath import basename, join, normpath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlship.dockerfile.lexer import DockerfileError, lex
from mlship.dockerfile.shell import commands
from mlship.dockerfile.stages import parse_dockerfile
from mlship.dockerfile.words import UNKNOWN, expand
from mlship.image.dockerfile import exec_form, quote

NAMES = ("RUN", "ENV", "LABEL", "COPY", "USER", "WORKDIR", "CMD", "EXPOSE", "ARG")
PIECES = (
    *(
        "FROM ",
        "run ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "COPY --from=",
        "CMD ",
        "[",
        "]",
        '"',
        "'",
        "\\",
        "`",
        "#",
        "$",
        "{",
    ),
    *(
        "}",
        ":-",
        "<<EOF",
        "<<-'X'",
        "EOF",
        "\n",
        " ",
        "\t",
        "=",
        "a",
        "A",
        "&&",
        ";",
        "|",
        "(",
        ")",
        "$(",
        "pip install",
    ),
    *("# escape=`\n", "--mount=type=cache,target=/x ", "\r\n", ":", "-", "\0", "é", "scratch", "AS b"),
)
LETTERS = st.characters(
    min_codepoint=33, max_codepoint=0x17F, exclude_characters="\\`#'\"$<[-", exclude_categories=["Zs", "Cc"]
)
WORDS = st.text(LETTERS, min_size=1)
SPACES = st.sampled_from(["", "\n", "  # a comment\n", "\t\n", "# x \\\n"])


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"FROM scratch\n{text}"):
        with suppress(DockerfileError):
            parse_dockerfile(candidate)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.lists(WORDS, min_size=1)), min_size=1), st.data())
def test_continuations_comments_and_case_change_nothing(
    wanted: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    escape = data.draw(st.sampled_from("\\`"))
    text = "# escape=`\n" if escape == "`" else ""
    for name, words in wanted:
        text += data.draw(SPACES) + data.draw(st.sampled_from([name, name.lower(), name.title()]))
        for word in words:
            broken = data.draw(st.booleans())
            text += f" {escape}  \n{data.draw(SPACES)}{word}" if broken else f" {word}"
        text += "\n"
    found, _ = lex(text)
    assert [(one.name, one.text.split()) for one in found] == [(n, " ".join(w).split()) for n, w in wanted]


@given(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"])))
def test_a_quoted_value_is_read_back(value: str) -> None:
    assert expand(quote(value), "\\", lambda _name: UNKNOWN) == value
    stage = parse_dockerfile(f"FROM scratch\nENV A={quote(value)} B=b\n").stages[-1]
    assert stage.env == {"A": value, "B": "b"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_the_exec_form_is_read_back(words: list[str]) -> None:
    text = exec_form(words)
    cmd = parse_dockerfile(f"FROM scratch\nCMD {text}\n").stages[-1].cmd
    assert cmd is not None
    assert cmd.exec_form == tuple(words) or "\n" in text


@given(st.lists(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]))), st.booleans())
def test_a_here_document_is_kept_as_it_is(lines: list[str], quoted: bool) -> None:
    body = [line for line in lines if line != "EOF"]
    name = "'EOF'" if quoted else "EOF"
    found = lex("\n".join([f"RUN <<{name}", *body, "EOF", "USER 1"]))[0]
    assert [one.name for one in found] == ["RUN", "USER"]
    assert found[0].heredocs == ("\n".join(body),)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_the_words_of_a_command_are_read_back(words: list[str]) -> None:
    words = ["echo", *words]
    script = f"true && {shlex.join(words)}; exit"
    assert [one.words for one in commands(script, lambda _name: None)] == [("true",), tuple(words), ("exit",)]


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("ARG V=3.12\nFROM python:$V", "python:3.12"),
        ("ARG V=3.12\nFROM python:${V}-slim", "python:3.12-slim"),
        ("FROM python:${V:-3.11}", "python:3.11"),
        ("ARG V\nFROM python:${V:-3.11}", UNKNOWN),
        ("ARG V=1\nFROM python:${V:+3.10}", "python:3.10"),
        ("ARG V=a\nARG W=$V-b\nFROM python:$W", "python:a-b"),
        ("ARG V=3.12.1\nFROM python:${V%.1}", f"python:{UNKNOWN}"),
        ("FROM --platform=$BUILDPLATFORM python:3", "python:3"),
        ("FROM alpine AS a\nFROM a", "alpine"),
        ("FROM alpine AS A\nFROM debian AS b\nFROM a", "alpine"),
    ],
)
def test_the_base_is_what_the_arguments_give(text: str, base: str) -> None:
    found = parse_dockerfile(text).stages[-1].root.image
    assert found == base or (base == UNKNOWN and UNKNOWN in found)


def test_stages_inherit_and_triggers_run_in_the_next_one() -> None:
    file = parse_dockerfile(
        "FROM debian:12 AS one\nENV A=1\nUSER 7\nONBUILD ENV B=2\nONBUILD USER 8\nRUN a\n"
        "FROM one AS two\nRUN b\nFROM scratch AS other\nRUN c\nFROM two\n"
        "COPY --from=other /x /\nCOPY --from=ubuntu /y /\n"
    )
    assert (file.stages[0].user, file.stages[0].env) == (("7", 3), {"A": "1"})
    last = file.stages[-1]
    assert (last.user, last.env, last.root.image) == (("8", 5), {"A": "1", "B": "2"}, "debian:12")
    assert [run.text for stage in file.shipped for run in stage.runs] == ["a", "b"]
    assert [one.image for one in file.images] == ["debian:12", "ubuntu"]


def test_what_only_the_base_or_the_build_knows_is_unknown() -> None:
    stage = parse_dockerfile('FROM debian\nARG N\nENV A="$PATH:/x" B=$N C=${D:-d}\nUSER $N').stages[-1]
    assert stage.env == {"A": f"{UNKNOWN}:/x", "B": UNKNOWN, "C": UNKNOWN}
    assert stage.user == (UNKNOWN, 4)
    scratch = parse_dockerfile("FROM scratch\nENV A=x$NONE C=${D:-d}").stages[-1]
    assert scratch.env == {"A": "x", "C": "d"}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("a && b || c", ["a", "b", "c"]),
        ("if [ x ]; then b; else c; fi", ["[ x ]", "b", "c"]),
        ("A=1 B=2 pip install x", ["pip install x"]),
        ("sudo -u app env X=1 pip install x", ["pip install x"]),
        ("bash -lc 'pip install x && y'", ["pip install x", "y"]),
        ("echo $(pip install x)", [f"echo {UNKNOWN}", "pip install x"]),
        ("pip install a>=2", ["pip install a"]),
        ("x 2>/dev/null >>log; y # pip install z", ["x", "y"]),
        ("pip install 'a; b' \"c && d\"", ["pip install a; b c && d"]),
        ("pip install git+https://x#egg=y", ["pip install git+https://x#egg=y"]),
        ("(cd /x; make)", ["cd /x", "make"]),
        ("exec python -m a", ["python -m a"]),
        ("pip \\\n install a\\\nb", ["pip install ab"]),
        ("echo $( (a) ; b (c) ) d; e", [f"echo {UNKNOWN} d", "e", "a", "b", "c"]),
    ],
)
def test_the_commands_of_a_script(script: str, words: list[str]) -> None:
    assert [" ".join(one.words) for one in commands(script, lambda _name: None)] == words


def test_a_here_document_is_a_script_or_the_input_of_a_program() -> None:
    file = parse_dockerfile(
        "FROM debian\nRUN <<EOF\npip install a\nEOF\nRUN python <<EOF\nimport a\nEOF\n"
        'RUN <<EOF\n#!/usr/bin/env python\nimport b\nEOF\nRUN ["sh", "-c", "pip install b"]\nSHELL ["pwsh"]\nRUN x\n'
    )
    runs = file.stages[0].runs
    assert [[" ".join(one.words) for one in run.commands] for run in runs] == [
        ["pip install a"],
        ["python"],
        [],
        ["pip install b"],
        [],
    ]
    assert [run.known for run in runs] == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: it has no FROM"),
        ("FROM a\nconda install x", "line 2: unknown instruction `CONDA`"),
        ("RUN x", "line 1: RUN comes before the first FROM"),
        ("FROM a\nRUN <<EOF\nx", "line 2: the here-document `EOF` has no end"),
        ("FROM a b", "line 1: FROM needs an image"),
        ("# escape=x\nFROM a", "the escape character is `x`"),
        ("FROM a\nONBUILD ONBUILD RUN x", "ONBUILD cannot be in ONBUILD"),
        ("FROM a\nSHELL bash -c", "line 2: SHELL needs a list in JSON"),
    ],
)
def test_what_buildkit_refuses_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=r"^") as error:
        parse_dockerfile(text)
    assert message in str(error.value)


def test_an_entrypoint_drops_an_inherited_cmd_but_not_its_own() -> None:
    text = 'FROM debian AS a\nCMD x\nFROM a\n{}ENTRYPOINT ["y"]\n'
    assert parse_dockerfile(text.format("")).stages[-1].cmd is None
    own = parse_dockerfile(text.format("CMD z\n")).stages[-1].cmd
    assert own is not None
    assert own.text == "z"


def test_the_old_form_of_env_takes_the_rest_of_the_line() -> None:
    stage = parse_dockerfile("FROM scratch\nENV NAME  b c=d\nENV OTHER x\n").stages[-1]
    assert stage.env == {"NAME": "b c=d", "OTHER": "x"}


def test_a_positional_variable_has_one_digit() -> None:
    assert expand("$12-$@x", "\\", lambda name: f"<{name}>") == "<1>2-<@>x"


def test_stages_that_double_what_they_copy_take_no_time() -> None:
    stages = (f"FROM a AS s{n}\nCOPY --from=s{n - 1} / /b\nCOPY --from=s{n - 1} / /c\n" for n in range(1, 40))
    assert len(parse_dockerfile("FROM a AS s0\nCOPY x /y\n" + "".join(stages)).stages[-1].copied) < 20_000


def test_a_number_of_any_length_may_be_an_image() -> None:
    number = "1" * 5000
    assert [one.image for one in parse_dockerfile(f"FROM a\nCOPY --from={number} /a /a\n").images] == ["a", number]


CONTEXT = {f"{folder}{name}" for folder in ("", "a/", "b/", "a/b/") for name in ("a.py", "b.py")}
COPIES = st.tuples(
    st.sampled_from([".", "a", "b", "a.py", "a/b", "a/b.py", "b/a.py"]),
    st.sampled_from([".", "/srv", "c", "c.py", "/opt/c", "./d/", "/opt/b.py"]),
)


@given(st.lists(COPIES, min_size=1, max_size=4))
def test_a_file_of_the_image_is_from_the_last_copy_that_has_it(copies: list[tuple[str, str]]) -> None:
    """As Docker copies: the files of a folder go into the target, and a file gets its name or goes into a folder."""
    image: dict[str, str] = {}
    for source, target in copies:
        place = normpath(join("/srv", target))
        if source in CONTEXT:
            into = place == "/srv" or target.endswith("/") or any(path.startswith(f"{place}/") for path in image)
            image[join(place, basename(source)) if into else place] = source
        assume(source in CONTEXT or place not in image)  # Docker copies no folder to a file
        below = "" if source == "." else f"{source}/"
        image |= {join(place, path.removeprefix(below)): path for path in CONTEXT if path.startswith(below)}
    lines = "\n".join(f"COPY {source} {target}" for source, target in copies)
    stage = parse_dockerfile(f"FROM x\nWORKDIR /srv\n{lines}").stages[-1]
    for path, source in image.items():
        assert next(one for one in stage.files.sources(path) if one in CONTEXT) == source


@pytest.mark.parametrize(("target", "count"), [("0", 1), ("First", 1), ("1", 2), ("third", 3), ("", 4)])
def test_a_target_is_a_name_or_a_number(target: str, count: int) -> None:
    text = "FROM a AS first\nFROM first\nFROM b AS Third\nFROM first\n"
    assert len(parse_dockerfile(text, target).stages) == count
    with pytest.raises(DockerfileError, match="no stage `4`, only first, 1, third, 3"):
        parse_dockerfile(text, "4")
