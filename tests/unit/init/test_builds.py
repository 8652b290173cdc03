"""Which Dockerfile and command build the server: the repository's, those of a compose file, or of a folder."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.init.builds import find_build
from mlship.init.detect import detect
from mlship.init.tree import read_tree
from mlship.project.commands import without_reload
from tests.helpers.repos import write

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/predict')\ndef predict(x: int): return x\n"
SERVES = "FROM python:3.12\nCMD uvicorn main:app --port 9000\n"
PAGE = "FROM python:3.12\nCMD streamlit run ui.py\n"
ADDRESS = ("--host", "0.0.0.0", "--port", "8080")
PLAIN = "FROM python:3.13\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["svc", "./svc", "svc/"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(["--workers", "2", "--log-level", "a b", "--root-path", "/x y"]), max_size=4),
)
def test_the_command_of_a_compose_file_is_read_in_each_form(
    tmp_path: Path, context: str, is_list: bool, is_table: bool, more: list[str]
) -> None:
    words = ["uvicorn", "main:app", *more]
    text = " ".join(f"'{word}'" for word in words)
    build = {"context": context, "dockerfile": "Dockerfile.dev"} if is_table else context
    service = {"build": build, "command": words if is_list else text}
    files: dict[str, str | bytes] = {
        "docker-compose.yml": json.dumps({"services": {"web": service, "db": {"image": "postgres"}}}),
        "svc/Dockerfile.dev" if is_table else "svc/Dockerfile": PLAIN,
    }
    repo = tmp_path / str(len(list(tmp_path.iterdir())))
    found = find_build(read_tree(write(repo, files)))
    assert found.stage is not None
    assert (found.stage.command, found.folder, found.origin) == (tuple(words), "svc", "docker-compose.yml")


def test_the_server_of_a_folder_runs_there_with_its_python(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"api/Dockerfile": SERVES, "api/main.py": FASTAPI, "ui/Dockerfile": PAGE}
    found = detect(write(tmp_path, {**files, "ui/ui.py": "import streamlit\n"}))
    assert found.server is not None
    assert found.server.command == ("env", "--chdir=api", "uvicorn", "main:app", "--port", "9000", "--host", "0.0.0.0")
    assert (found.python.value, found.server.why.split(";")[0]) == ("3.12", "the command in api/Dockerfile")


def test_a_folder_with_a_dockerfile_is_read_although_builds_may_write_to_its_name(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"build/api.Dockerfile": SERVES, "build/main.py": FASTAPI, "dist/main.py": FASTAPI}
    assert read_tree(write(tmp_path, files)).files == ("build/api.Dockerfile", "build/main.py")


@pytest.mark.parametrize("dockerfile", [PLAIN, f"{PLAIN}CMD python migrate.py && uvicorn main:app\n"])
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("uvicorn main:app --port 9000", ("uvicorn", "main:app", "--port", "9000")),
        ("uvicorn main:app --port ${PORT:-9000}", ("uvicorn", "main:app", "--port", "9000")),
        (["uv", "run", "-m", "main"], ("uv", "run", "-m", "main")),
        ("uvicorn main:app --port $PORT", None),
        ("uvicorn main:app --port $${PORT:-9000}", None),  # an escaped dollar sign
        ("python other.py", None),
    ],
)
def test_a_compose_file_gives_the_command_of_the_repositorys_dockerfile(
    tmp_path: Path, dockerfile: str, command: object, words: tuple[str, ...] | None
) -> None:
    compose = json.dumps({"services": {"web": {"build": ".", "command": command}}})
    module = f"{FASTAPI}if __name__ == '__main__':\n    import uvicorn\n    uvicorn.run(app)\n"
    write(tmp_path, {"main.py": module, "other.py": "", "Dockerfile": dockerfile, "compose.yaml": compose})
    found = find_build(read_tree(tmp_path))
    assert found.stage is not None
    assert (found.stage.command if found.origin == "compose.yaml" else None) == words


def test_the_command_of_a_serving_dockerfile_comes_before_that_of_a_compose_file(tmp_path: Path) -> None:
    compose = json.dumps({"services": {"web": {"build": ".", "command": "uvicorn main:app --reload"}}})
    found = find_build(read_tree(write(tmp_path, {"main.py": FASTAPI, "Dockerfile": SERVES, "compose.yaml": compose})))
    assert found.origin == "Dockerfile"


def test_a_server_that_the_dockerfile_does_not_start_listens_on_its_port(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"main.py": FASTAPI, "Dockerfile": "FROM python:3.12\nEXPOSE 8000\n"})).server
    assert found is not None
    assert (found.port, found.command[4:6]) == (8000, ("--port", "8000"))


def test_the_root_comes_first_and_several_servers_are_said(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}/Dockerfile": SERVES for name in ("a", "b")}
    build = find_build(read_tree(write(tmp_path, files)))
    assert build.stage is None
    (note,) = build.notes
    assert note.startswith("`a/Dockerfile`, `b/Dockerfile` start several servers; for one in a folder of its own, run")
    write(tmp_path, {"Dockerfile": PLAIN})
    assert find_build(read_tree(tmp_path)).stage is not None


def test_of_dockerfiles_that_start_the_same_the_first_is_taken_and_said(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"Dockerfile.{name}": SERVES for name in ("cpu", "gpu")}
    build = find_build(read_tree(write(tmp_path, files)))
    assert build.dockerfile == "Dockerfile.cpu"
    same = "`Dockerfile.cpu`, `Dockerfile.gpu` start the same server; what `Dockerfile.cpu` installs is used"
    assert build.notes == (same,)


@pytest.mark.parametrize("program", ["mlflow ui", "mlflow server --port 5000", "python -m mkdocs serve", "node a.js"])
@pytest.mark.parametrize("other", [True, False])
def test_a_tool_at_the_root_hides_no_server_and_lends_it_no_port(tmp_path: Path, program: str, other: bool) -> None:
    tool = f"FROM python:3.12\nEXPOSE 5000\nCMD {program}\n"
    files: dict[str, str | bytes] = {"Dockerfile": tool, "api/main.py": FASTAPI}
    found = detect(write(tmp_path, {**files, "api/Dockerfile": SERVES} if other else files)).server
    assert found is not None
    assert found.port == (9000 if other else 8080)


@pytest.mark.parametrize(
    "command",
    [
        "conda run --no-capture-output -n env uvicorn app.main:app",
        "supervisord -c supervisord.conf",
        "make serve",
        "mlflow models serve -m model",
        "gosu app own-server",
    ],
)
def test_a_wrapper_or_an_unknown_program_at_the_root_is_no_other_server(tmp_path: Path, command: str) -> None:
    files: dict[str, str | bytes] = {
        "Dockerfile": f"FROM python:3.12\nEXPOSE 8000\nCMD {command}\n",
        "main.py": FASTAPI,
    }
    build = find_build(read_tree(write(tmp_path, {**files, "mock/Dockerfile": SERVES, "mock/main.py": FASTAPI})))
    assert build.stage is not None
    assert (build.dockerfile, build.stage.ports) == ("Dockerfile", ("8000",))


def test_a_page_at_the_root_hides_no_server_below_it(tmp_path: Path) -> None:
    api = "FROM python:3.13\nCMD python -m api.main --port 9000\n"
    main = f"import argparse\n{FASTAPI}"
    files: dict[str, str | bytes] = {"Dockerfile": PAGE, "ui.py": "import streamlit\n", "api/main.py": main}
    compose = "services: {a: {build: {context: ., dockerfile: api/Dockerfile}}, b: {build: .}}"
    found = detect(write(tmp_path, {**files, "api/Dockerfile": api, "compose.yml": compose}))
    assert found.server is not None
    assert (found.server.command, found.server.port) == (("python", "-m", "api.main", "--port", "9000"), 9000)
    assert found.python.value == "3.13"
    (tmp_path / "api/Dockerfile").unlink()
    alone = detect(tmp_path).server
    assert alone is not None
    assert alone.command[:2] == ("uvicorn", "api.main:app")  # not `streamlit run`


@pytest.mark.parametrize("command", ["python train.py", "celery -A jobs worker", "python -m streamlit run ui.py"])
def test_a_dockerfile_that_starts_something_else_starts_no_server(tmp_path: Path, command: str) -> None:
    files: dict[str, str | bytes] = {"Dockerfile": f"FROM python:3.12\nCMD {command}\n", "train.py": "import torch\n"}
    found = detect(write(tmp_path, {**files, "main.py": FASTAPI})).server
    assert found is not None
    assert found.command[:2] == ("uvicorn", "main:app")


def test_a_folder_decides_between_modules_of_one_name(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"main.py": "x = 1\n", "api/main.py": FASTAPI, "api/Dockerfile": SERVES}
    found = detect(write(tmp_path, files)).server
    assert found is not None
    assert found.path == "api/main.py"


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {build: ../other, command: uvicorn main:app}}",
        "services: {a: {image: x, command: uvicorn main:app}}",
        "services: {a: {build: svc, command: uvicorn main:app --port $PORT}}",
        'services: {a: {build: svc, command: "uvicorn \'main:app"}}',
        "services: {a: {build: svc, entrypoint: [celery]}}",
        "services: [a, b]",
        "services: {a: [",
    ],
)
def test_what_is_not_certain_is_not_taken(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"compose.yaml": text, "svc/Dockerfile": PLAIN, "svc/main.py": FASTAPI})
    assert find_build(read_tree(tmp_path)).stage is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("uvicorn a:b --reload --port 1", "uvicorn a:b --port 1"),
        ("uvicorn a:b --reload-dir src --reload --reload-include=*.x", "uvicorn a:b"),
        ("gunicorn a:b --reload", "gunicorn a:b"),
        ("uvicorn reload:app", "uvicorn reload:app"),
    ],
)
def test_options_for_development_are_left_out(command: str, words: str) -> None:
    assert without_reload(command.split()) == tuple(words.split())


def test_the_image_does_not_watch_its_sources(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"main.py": FASTAPI, "Procfile": "web: uvicorn main:app --reload --port 9000"}))
    assert found.server is not None
    assert "--reload" not in found.server.command


SCRIPT = f"{FASTAPI}if __name__ == '__main__':\n    import uvicorn\n    uvicorn.run(app, port=9000)\n"


@pytest.mark.parametrize(
    ("copies", "start", "words"),
    [
        ("COPY api/service.py main.py", "python main.py", ("python", "api/service.py")),
        ("COPY api/service.py /srv/main.py", "python ./main.py", ("python", "api/service.py")),
        ("COPY api/ .", "python service.py", ("env", "--chdir=api", "python", "service.py")),
        ("COPY . .", "python api/service.py", ("python", "api/service.py")),
        ("COPY api/ .", "uvicorn service:app", ("env", "--chdir=api", "uvicorn", "service:app", *ADDRESS)),
        ("COPY old/ .", "uvicorn service:app", ("env", "--chdir=old", "uvicorn", "service:app", *ADDRESS)),
        ("COPY . /srv/api", "uvicorn api.old.service:app", ("uvicorn", "old.service:app", *ADDRESS)),
        ("FROM base AS two\nWORKDIR /srv\nCOPY --from=one /b /srv", "python service.py",
         ("env", "--chdir=old", "python", "service.py")),
    ],
)  # fmt: skip
def test_a_script_has_the_name_that_it_has_here(
    tmp_path: Path, copies: str, start: str, words: tuple[str, ...]
) -> None:
    dockerfile = f"FROM base AS one\nCOPY old /b\nWORKDIR /srv\n{copies}\nCMD {start}\n"
    files: dict[str, str | bytes] = {"api/service.py": SCRIPT, "old/service.py": SCRIPT, "Dockerfile": dockerfile}
    server = detect(write(tmp_path, files)).server
    assert server is not None
    assert server.command == words


def test_a_script_in_a_folder_runs_where_the_files_are_that_it_opens(tmp_path: Path) -> None:
    code = SCRIPT.replace("@app", "import json\nlabels = json.load(open('labels.json'))\n@app")
    dockerfile = "FROM base\nWORKDIR /srv\nCOPY src .\nCOPY labels.json .\nCMD python service.py\n"
    server = detect(write(tmp_path, {"src/service.py": code, "labels.json": "{}", "Dockerfile": dockerfile})).server
    assert server is not None
    assert server.command == ("python", "src/service.py")


def test_a_compose_service_runs_in_its_folder_and_has_the_folders_that_it_mounts(tmp_path: Path) -> None:
    service = {
        "build": {"context": "..", "dockerfile": "docker/dev"},
        "volumes": ["../:/srv", "data:/data", "./cache"],  # the last one is not valid
        "working_dir": "/srv/packages/api",
        "command": "poetry run uvicorn main:app --reload",
    }
    files: dict[str, str | bytes] = {
        **dict.fromkeys(("packages/api/main.py", "packages/other/main.py", "main.py"), FASTAPI),
        "docker/dev": PLAIN,
        "docker/compose.yaml": json.dumps({"services": {"api": service}}),
    }
    server = detect(write(tmp_path, files)).server
    assert server is not None
    assert server.command == ("env", "--chdir=packages/api", "uvicorn", "main:app", *ADDRESS)
    other = {**service, "working_dir": "/srv/packages/other"}
    write(tmp_path, {"docker/compose.yaml": json.dumps({"services": {"api": service, "other": other}})})
    (note,) = find_build(read_tree(tmp_path)).notes
    assert "start several servers" in note


@pytest.mark.parametrize("name", ["api.dockerfile", "api.Dockerfile", "Dockerfile.api", "Dockerfile-api"])
def test_a_dockerfile_has_its_servers_name_before_or_after(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"docker/{name}": SERVES, "main.py": FASTAPI})
    assert find_build(read_tree(tmp_path)).dockerfile == f"docker/{name}"


@pytest.mark.parametrize(("copy", "is_above"), [("api/ .", True), ("api/main.py .", True), (". .", False)])
def test_a_dockerfile_that_is_built_from_the_folder_above_is_noted(tmp_path: Path, copy: str, is_above: bool) -> None:
    write(tmp_path / "api", {"main.py": FASTAPI, "Dockerfile": f"FROM x\nCOPY {copy}\nCMD uvicorn main:app\n"})
    assert any("is built from the folder above" in note for note in detect(tmp_path / "api").notes) == is_above
    write(tmp_path / "api", {"api/main.py": FASTAPI})  # its own folder of that name
    assert not any("is built from the folder above" in note for note in detect(tmp_path / "api").notes)
