"""Servers without FastAPI, Flask or Django: started if the command is certain, and never reported as absent."""

import json
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.repos import onnx_bytes, write

LIT = (
    "import litserve as ls\nfrom app.net import Net\nclass Api(ls.LitAPI):\n    def predict(self, x): return x\n"
    "if __name__ == '__main__':\n    server = ls.LitServer(Api(){0})\n    server.run({1})\n"
)
BENTO = (
    "import bentoml\n@bentoml.service(resources={'cpu': '1'})\nclass Irises:\n    @bentoml.api\n"
    "    def classify(self, rows: list, limit: int = 3, context: bentoml.Context = None) -> list: return rows\n"
)
RAY = (
    "from fastapi import FastAPI\nfrom ray import serve\napp = FastAPI()\n@serve.deployment\n@serve.ingress(app)\n"
    "class Model:\n    @app.post('/predict')\n    def predict(self, x: int): return x\nentry = Model.bind()\n"
)


def test_litserve_runs_its_module_with_its_own_routes(tmp_path: Path) -> None:
    server = detect(write(tmp_path, {"app/main.py": LIT.format("", "port=9001"), "app/net.py": "Net = 1\n"})).server
    assert server is not None
    assert (server.command, server.port, server.needs) == (("python", "-m", "app.main"), 9001, ("litserve",))
    assert (server.routes.live, server.routes.ready, server.routes.predict) == ("/", "/health", "/predict")


def test_litserve_paths_and_ports_of_the_code_count_and_unknown_ones_are_open(tmp_path: Path) -> None:
    code = LIT.format(", api_path='/v1/x', healthcheck_path=HEALTH", "port=args.port")
    found = detect(write(tmp_path, {"server.py": code, "app/net.py": "Net = 1\n"}))
    assert found.server is not None
    assert found.server.command == ("python", "server.py")
    assert (found.server.routes.ready, found.server.routes.predict) == (None, "/v1/x")
    assert not found.server.port_known
    assert any("the command sets no port" in note for note in found.notes)
    assert detect(write(tmp_path, {"server.py": LIT.format("", "")})).port == 8000


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("class Api(ls.LitAPI):\n    api_path = '/classify'\nls.LitServer(Api())", "/classify"),
        ("class Api(ls.LitAPI): pass\nls.LitServer(Api(api_path='/classify'))", "/classify"),
        ("class Api(ls.LitAPI): pass\ndef ask():\n    api_path = '/other'\nls.LitServer(Api())", "/predict"),
        ("class Api(ls.LitAPI): pass\napi = Api(api_path='/classify')\nls.LitServer(api)", "/classify"),
        ("class Api(ls.LitAPI): pass\nls.LitServer(Api(api_path=PATH))", None),
        ("class Api(ls.LitAPI): pass\nls.LitServer([Api(api_path='/a'), Api(api_path='/b')])", None),
        ("from apis import Api\nls.LitServer(Api())", "/of-module"),
    ],
)
def test_the_path_of_a_litserve_api_is_read_or_open(tmp_path: Path, code: str, path: str | None) -> None:
    module = (
        "import litserve as ls\nclass Api(ls.LitAPI):\n    def __init__(self):\n"
        "        super().__init__(api_path='/of-module')\n"
    )
    found = detect(write(tmp_path, {"server.py": f"import litserve as ls\n{code}.run(port=1234)\n", "apis.py": module}))
    assert found.server is not None
    assert (found.server.port, found.server.routes.predict) == (1234, path)


@pytest.mark.parametrize(
    ("given", "note"),
    [("host='127.0.0.1'", "unreachable"), ("host=args.host", "not constant"), ("host='0.0.0.0'", ""), ("", "")],
)
def test_a_host_that_no_other_machine_reaches_is_reported(tmp_path: Path, given: str, note: str) -> None:
    notes = detect(write(tmp_path, {"server.py": LIT.format("", given), "app/net.py": "Net = 1\n"})).notes
    assert any(note in one for one in notes if "`server.py`" in one) if note else not any("host" in n for n in notes)


def test_bentoml_serves_the_service_of_bentofile(tmp_path: Path) -> None:
    bentofile = "service: 'src.service:Irises'\nmodels: ['iris:latest', {tag: 'b:1'}]\npython: {packages: [bentoml]}\n"
    other = BENTO.replace("Irises", "Other")
    files: dict[str, str | bytes] = {"src/__init__.py": "", "src/service.py": BENTO, "src/other.py": other}
    found = detect(write(tmp_path, {**files, "bentofile.yaml": bentofile}))
    server = found.server
    assert server is not None
    assert server.command == ("bentoml", "serve", "src.service:Irises", "--port", "8080")
    assert (server.routes.live, server.routes.ready, server.routes.predict) == ("/livez", "/readyz", "/classify")
    assert server.routes.handler is not None
    assert server.routes.handler.json == ("rows",)
    assert any("`iris:latest`, `b:1` of BentoML's model store is not in the image" in note for note in found.notes)
    (tmp_path / "bentofile.yaml").unlink()
    assert detect(tmp_path).server is None  # two services, and nothing chooses


@pytest.mark.parametrize("left_out", ["", "@serve.ingress(app)\n"])
def test_an_app_that_ray_serve_takes_over_is_not_run_alone(tmp_path: Path, left_out: str) -> None:
    found = detect(write(tmp_path, {"main.py": RAY.replace(left_out, "") if left_out else RAY}))
    assert found.server is None  # uvicorn would serve methods without their object
    assert any(
        "`main.py` (line 4) uses Ray Serve to serve, whose command `init` does not know" in n for n in found.notes
    )


@pytest.mark.parametrize(
    ("words", "shipped"),
    [
        (["vllm", "serve", "models/m"], True),
        (["vllm", "serve", "--model=./models/m/"], True),
        (["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/app/models/m"], True),
        (["vllm", "serve", "/models/m"], False),
        (["vllm", "serve", "org/m"], False),
        (["vllm", "serve", "org/m", "--download-dir", "models"], False),
    ],
)
def test_a_model_of_the_repository_is_not_to_be_downloaded(tmp_path: Path, words: list[str], shipped: bool) -> None:
    docker = f"FROM vllm/vllm-openai:v1\nENTRYPOINT {json.dumps(words)}\n"
    found = detect(write(tmp_path, {"Dockerfile": docker, "models/m/config.json": "{}"})).server
    assert found is not None
    assert any("hf download" in step for step in found.steps) is not shipped


@pytest.mark.parametrize("marks", ["@staticmethod\n    @app.get('/a')", "@app.get('/a')\n    @staticmethod"])
def test_an_app_with_routes_on_static_methods_is_run(tmp_path: Path, marks: str) -> None:
    routes = f"class Routes:\n    {marks}\n    def a(): ...\n"
    routes += "    @staticmethod\n    @app.post('/predict')\n    def p(x: int): ...\n"
    found = detect(write(tmp_path, {"main.py": f"from fastapi import FastAPI\napp = FastAPI()\n{routes}"})).server
    assert found is not None
    assert (found.command[:2], found.routes.predict) == (("uvicorn", "main:app"), "/predict")
    bound = routes.replace("@staticmethod\n    @app.post", "@app.post").replace("def p(x", "def p(self, x")
    assert detect(write(tmp_path, {"main.py": f"from fastapi import FastAPI\napp = FastAPI()\n{bound}"})).server is None


def test_a_bentofile_has_the_requirements_of_its_service_and_others_their_versions(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "service.py": "import bentoml\nsvc = bentoml.Service('x')\n",
        "bentofile.yaml": "service: 'service:svc'\npython: {requirements_txt: serve.txt}\n",
        "serve.txt": "scipy==1.10.1\n",
        "requirements.txt": "bentoml==1.0.20\ntqdm\n",
    }
    plan = scaffold(detect(write(tmp_path, files)))
    text = next(file.text for file in plan.files if file.path == "requirements.in")
    assert [line for line in text.splitlines() if line[0] != "#"] == ["scipy==1.10.1", "bentoml==1.0.20"]


def test_an_app_with_methods_for_routes_is_not_run_alone(tmp_path: Path) -> None:
    api = "from fastapi import FastAPI\napp = FastAPI()\nclass Api:\n    @app.post('/predict')\n    def f(self): ...\n"
    start = (
        "from ray import serve\nfrom api import Api, app\nentry = serve.deployment(serve.ingress(app)(Api)).bind()\n"
    )
    found = detect(write(tmp_path, {"api.py": api, "serve_app.py": start}))
    assert found.server is None
    assert any("`serve_app.py` (line 3) uses Ray Serve" in note for note in found.notes)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"Dockerfile": 'FROM vllm/vllm-openai:v1\nCMD ["vllm", "serve", "o/m"]\n'},
         ("vllm", "serve", "o/m", "--port", "8000")),
        ({"Dockerfile": 'FROM vllm/vllm-openai:v1\nENTRYPOINT ["/start.sh"]\n',
          "start.sh": "exec python3 -m vllm.entrypoints.openai.api_server --model ${MODEL:-o/m} --port 8001"},
         ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "o/m", "--port", "8001")),
        ({"Dockerfile": "FROM x\nENTRYPOINT vllm serve ${M:-o/m} ${R:+--revision $R} --port 8002\n"},
         ("vllm", "serve", "o/m", "--port", "8002")),
    ],
)  # fmt: skip
def test_vllm_has_its_routes_and_its_model_is_to_be_shipped(
    tmp_path: Path, files: dict[str, str | bytes], command: tuple[str, ...]
) -> None:
    found = detect(write(tmp_path, files))
    server = found.server
    assert server is not None
    assert (server.command, server.needs) == (command, ("vllm",))
    assert (server.routes.live, server.routes.ready, server.routes.predict) == ("/health", "/health", "/v1/completions")
    assert server.steps[0].startswith("Ship the model that `serve.command` names")
    assert not any("no server that `init` supports" in note for note in found.notes)
    assert not any(kept.path == "Dockerfile" for kept in scaffold(found).kept)


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("import grpc\nserver = grpc.aio.server()\n", "gRPC to serve, which does not accept a sample over HTTP"),
        ("from aiohttp import web\nweb.run_app(web.Application())\n", "aiohttp to serve, whose command"),
        (
            "from kafka import KafkaConsumer as C\nfor m in C('x'): pass\n",
            "Kafka to serve, which does not accept a sample",
        ),
    ],
)
def test_another_server_is_named_instead_of_none(tmp_path: Path, code: str, title: str) -> None:
    notes = detect(write(tmp_path, {"svc/run.py": code})).notes
    assert any(title in note and "`svc/run.py`" in note for note in notes)
    assert not any("found no server" in note for note in notes)


def test_workers_that_the_image_does_not_start_are_named(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "main.py": "from fastapi import FastAPI\nfrom jobs import task\napp = FastAPI()\n",
        "jobs.py": "from celery import Celery\nqueue = Celery('x')\ntask = 1\n",
    }
    notes = detect(write(tmp_path, files)).notes
    assert any("`jobs.py` uses Celery; its other processes" in note for note in notes)


@pytest.mark.parametrize(
    ("path", "language"), [("server/Cargo.toml", "Rust"), ("src/Main.java", "Java"), ("infer.cpp", "C++")]
)
@pytest.mark.parametrize("model", [True, False])
def test_code_in_another_language_is_named_where_no_server_is_found(
    tmp_path: Path, path: str, language: str, model: bool
) -> None:
    files: dict[str, str | bytes] = {
        "train.py": "import torch\n",
        path: "x",
        **({"m.onnx": onnx_bytes()} if model else {}),
    }
    notes = detect(write(tmp_path, files)).notes
    assert f"`{path}`: code in {language} is not read" in notes
