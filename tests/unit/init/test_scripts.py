"""What `python app.py` starts, and what init makes of it."""

import ast
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from mlship.init.scripts import ScriptStart, script_start
from mlship.init.sources import is_served
from tests.helpers.repos import write

HEAD = "import os, pickle\nfrom flask import Flask\napp = Flask(__name__)\ndef load_model():\n    pass\n"
DOCKER = "FROM python:3.11\nEXPOSE 5000\nCMD python app.py\n"


def start_of(block: str, head: str = HEAD) -> ScriptStart | None:
    return script_start(ast.parse(f"{head}if __name__ == '__main__':\n    {block}\n").body, ["app"])


@pytest.mark.parametrize(
    ("call", "port"),
    [
        ("app.run(port=80)", 80),
        ("app.run(host='0.0.0.0')", 5000),
        ("uvicorn.run('app:app')", 8000),
        ("uvicorn.run(app, port=int(os.environ.get('PORT', 8123)))", 8123),
        ("uvicorn.run(app, port=int(os.getenv('PORT', '8123')))", 8123),
        ("port = 9000; app.run(port=port)", 9000),
        ("app.run(port=PORT)", None),
    ],
)
def test_port(call: str, port: int | None) -> None:
    start = start_of(call)
    assert start
    assert start.simple
    assert start.port == port


ARGS = "def get_args():\n    return argparse.ArgumentParser().parse_args()\n"
LOGS = "def setup_logging():\n    logging.basicConfig(level=10)\n    logger = logging.getLogger()\n    logger.info(1)\n"
SETS = "def start():\n    global model\n    model = make()\n"


@pytest.mark.parametrize(
    ("functions", "block", "named", "simple"),
    [
        (ARGS + LOGS, "args = get_args()\n    setup_logging()", (), False),
        (LOGS, "setup_logging()", (), True),
        (ARGS, "get_args()", (), False),
        (ARGS + LOGS + SETS, "get_args(); setup_logging(); start()", ("start",), False),
        (SETS, "start()", ("start",), True),
        (SETS, "start('big')", (), False),
        (SETS, "args = parse()\n    start(args.model)", (), False),
        (ARGS + "def start():\n    global model\n    model = make(get_args())\n", "start()", (), False),
        ("def start():\n    global model\n    model = make(args.size)\n", "args = parse()\n    start()", (), False),
        ("def tables():\n    db.create_all()\n", "tables()", ("tables",), True),
        ("def routes():\n    app.add_url_rule('/x', view_func=x)\n", "routes()", ("routes",), True),
        ("def init(app):\n    app.model = load()\n", "init(app)", (), False),
        ("def check():\n    verify('x')\n", "check()", (), False),
    ],
)
def test_only_calls_that_the_server_needs_are_named(
    functions: str, block: str, named: tuple[str, ...], simple: bool
) -> None:
    start = start_of(f"{block}\n    app.run()", HEAD + functions)
    assert start
    assert (tuple(name for name, _ in start.calls), start.simple) == (named, simple)


def test_a_function_that_is_called_twice_is_named_once(tmp_path: Path) -> None:
    write(
        tmp_path, {"app.py": f"{HEAD}if __name__ == '__main__':\n    load_model()\n    load_model()\n    app.run()\n"}
    )
    assert any(step.startswith("Move `load_model()` out of") for step in scaffold(detect(tmp_path)).todo)


@pytest.mark.parametrize("block", ["main()", "pass", "print('x')", "x = app.run", "subprocess.run('x')"])
def test_a_block_that_starts_no_server(block: str) -> None:
    assert start_of(block) is None


@pytest.mark.parametrize(
    ("functions", "block", "port"),
    [
        ("def main():\n    uvicorn.run(app, port=P)\nP = int(os.getenv('P', 8100))\n", "main()", 8100),
        ("def main():\n    port = 9000\n    app.run(port=port)\n", "sys.exit(main())", 9000),
        ("class S:\n    def go(self):\n        uvicorn.run(app, port=1234)\ndef main(): S().go()\n", "main()", 1234),
        ("def main():\n    uvicorn.run(app, port=args.port)\n", "main()", None),
    ],
)
def test_the_port_of_a_server_that_a_function_starts(functions: str, block: str, port: int | None) -> None:
    start = start_of(block, HEAD + functions)
    assert start
    assert (start.port, start.simple, start.calls) == (port, False, ())


@pytest.mark.parametrize("block", ["pass", "other()"])
def test_a_function_that_is_not_called_or_one_of_several_starts_nothing_certain(block: str) -> None:
    head = f"{HEAD}def main():\n    app.run(port=1)\ndef other():\n    app.run(port=2)\n"
    assert start_of(block, head) is None


def test_the_port_of_a_module_is_that_of_its_main(tmp_path: Path) -> None:
    code = (
        "import uvicorn\nfrom fastapi import FastAPI\napp = FastAPI()\ndef main():\n    uvicorn.run(app, port=8100)\n"
    )
    main = "if __name__ == '__main__':\n    main()\n"
    files: dict[str, str | bytes] = {
        "pkg/api.py": code + main,
        "Dockerfile": "FROM python:3.12\nCMD python -m pkg.api\n",
    }
    server = detect(write(tmp_path, files)).server
    assert server
    assert (server.command, server.port) == (("python", "-m", "pkg.api"), 8100)


def test_what_else_the_block_does() -> None:
    start = start_of("load_model(); app.run()")
    assert start
    assert [name for name, _ in start.calls] == ["load_model"]
    assert start.simple
    other = start_of("args = parse(); app.run()")
    assert other
    assert not other.simple


@pytest.mark.parametrize("docker", [DOCKER, ""])
def test_gunicorn_replaces_the_development_server(tmp_path: Path, docker: str) -> None:
    code = f"{HEAD}if __name__ == '__main__':\n    load_model()\n    app.run(port=80)\n"
    write(tmp_path, {"app.py": code, **({"Dockerfile": docker} if docker else {})})
    found = detect(tmp_path)
    assert found.server
    assert found.server.command[:2] == ("gunicorn", "app:app")
    assert "gunicorn" in found.server.needs
    step = next(step for step in scaffold(found).todo if "Move" in step)
    assert "`load_model()`" in step
    assert "(line 7)" in step


def test_a_script_that_does_more_is_kept_with_its_port(tmp_path: Path) -> None:
    code = f"{HEAD}if __name__ == '__main__':\n    args = parse()\n    app.run(port={{}})\n"
    write(tmp_path, {"Dockerfile": DOCKER, "app.py": code.format(8000)})
    found = detect(tmp_path)
    assert found.server
    assert found.server.command == ("python", "app.py")
    assert found.port == 8000
    (tmp_path / "app.py").write_text(code.format(80))
    found = detect(tmp_path)
    assert found.server
    assert found.port == 8080
    assert any("Change port 80 in `app.py` to 8080" in step for step in scaffold(found).todo)


@pytest.mark.parametrize("docker", [DOCKER, ""])
def test_a_server_that_starts_on_import_is_to_be_moved(tmp_path: Path, docker: str) -> None:
    write(tmp_path, {"app.py": f"{HEAD}app.run(host='0.0.0.0', port=5000)\n", "Dockerfile": docker})
    found = detect(tmp_path)
    assert found.server
    assert found.server.command[:2] == ("gunicorn", "app:app")
    steps = scaffold(detect(tmp_path)).todo
    assert any(step.startswith("Put line 6 of `app.py` below `if __name__ == '__main__':`") for step in steps)
    write(tmp_path, {"app.py": f"{HEAD}if __name__ == '__main__':\n    app.run()\n"})
    assert not any("Put line" in step for step in scaffold(detect(tmp_path)).todo)


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("serve.py", True),
        ("src/pkg/serve.py", True),
        ("tests/serve.py", False),
        ("pkg/Tests/serve.py", False),
        ("tools/deep/serve.py", False),
        ("pkg/tools.py", True),
        ("serve_test.py", False),
    ],
)
def test_files_of_side_folders_are_not_served(path: str, served: bool) -> None:
    assert is_served(path) is served
