"""Routes are full paths: prefixes of routers in routers, with constants of any module."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.init.detect import detect
from mlship.init.routers import DOCS
from mlship.init.sources import Module, parse_module, with_routes
from tests.helpers.repos import write
from tests.helpers.sampling import examples

CONFIG = """
from pydantic_settings import BaseSettings
PREFIX = "/c"
class Settings(BaseSettings):
    prefix: str = "/s"
    unset: str
settings = Settings()
"""
# How code writes a prefix, and what it is; None if nothing but running the code shows it.
PREFIXES: dict[str, str | None] = {
    '"/l"': "/l",
    "PREFIX": "/c",
    "config.PREFIX": "/c",
    "settings.prefix": "/s",
    "config.settings.prefix": "/s",
    'f"{PREFIX}/v{LOCAL}"': "/c/v1",
    'PREFIX + "/v1"': "/c/v1",
    "": "",
    "settings.unset": None,
    'os.environ["P"]': None,
    "f()": None,
}
HEAD = """
import os
from fastapi import APIRouter, FastAPI
from app import config
from app.config import PREFIX, settings
LOCAL = "1"
"""
FORMS = st.sampled_from(sorted(PREFIXES))


def routes(files: dict[str, str]) -> dict[str, set[str]]:
    modules = [parse_module(path, text) for path, text in files.items()]
    found: dict[str, Module] = with_routes({one.name: one for one in modules if one and one.name})
    paths = {name: {route.path for route in one.routes if route.path != DOCS} for name, one in found.items()}
    return {name: of for name, of in paths.items() if of}


@given(st.lists(st.tuples(FORMS, FORMS, st.booleans()), min_size=1, max_size=3), st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_a_route_has_the_prefixes_of_all_routers_above_it(levels: list[tuple[str, str, bool]], factory: bool) -> None:
    files = {"app/__init__.py": "", "app/config.py": CONFIG, "app/main.py": f"{HEAD}app = FastAPI()\n"}
    last, parent = "app/main.py", "app"
    expected: list[str | None] = []
    for number, (own, include, named) in enumerate(levels):
        files[last] += f"from app.m{number} import router as r\n"
        given_ = [f"prefix={include}"] if include else []
        files[last] += f"{parent}.include_router({', '.join([*given_, 'router=r'] if named else ['r', *given_])})\n"
        last, parent = f"app/m{number}.py", "router"
        files[last] = f"{HEAD}router = APIRouter({f'prefix={own}' if own else ''})\n"
        expected += [PREFIXES[include], PREFIXES[own]]
    files[last] += "@router.post('/predict')\ndef predict(x: str): ...\n"
    if factory:
        _, head, made = files["app/main.py"].partition(HEAD)
        files["app/main.py"] = f"{head}def create_app():\n" + "".join(f"    {line}\n" for line in made.splitlines())
    known = None not in expected
    assert routes(files) == ({last[:-3].replace("/", "."): {f"{''.join(map(str, expected))}/predict"}} if known else {})


FLASK = "from flask import Blueprint\nbp = Blueprint('x', __name__, url_prefix='/own')\n"
ROUTE = "@{}.route('/predict', methods=['POST'])\ndef f(): ...\n"
FASTAPI = "from fastapi import APIRouter\nrouter = APIRouter(prefix='/r')\n@router.post('/x')\ndef f(): ...\n"


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"m.py": "from flask import Flask\napp = Flask()\n" + ROUTE.format("app")}, "/predict"),
        ({"m.py": "class S:\n    @self.app.post('/a')\n    def f(self): ...\n"}, "/a"),
        ({"m.py": "import v\napp.register_blueprint(v.bp)", "v.py": FLASK + ROUTE.format("bp")}, "/own/predict"),
        (
            {
                "m.py": "from v import bp\napp.register_blueprint(bp, url_prefix='/n')",
                "v.py": FLASK + ROUTE.format("bp"),
            },
            "/n/predict",
        ),
        (
            {
                "p/__init__.py": FLASK + "from . import views\n",
                "p/views.py": "from p import bp\n" + ROUTE.format("bp"),
                "m.py": "from p import bp as b\ndef create_app():\n    app.register_blueprint(b)\n",
            },
            "/own/predict",
        ),
        (
            {"m.py": "import v\napp.register_blueprint(blueprint=v.bp)", "v.py": FLASK + ROUTE.format("bp")},
            "/own/predict",
        ),
        ({"m.py": "sub = Flask()\napp.mount(app=sub, path='/s')\n@sub.get('/x')\ndef f(): ...\n"}, "/s/x"),
        ({"v.py": FLASK + ROUTE.format("bp")}, None),  # no server registers it
        ({"m.py": "for r in (a, b):\n    app.include_router(r, prefix='/v1')\n", "a.py": FASTAPI}, "/v1/r/x"),
        ({"m.py": "def add(r, p):\n    app.include_router(r, prefix=p)\n", "a.py": FASTAPI}, None),
        ({"api/m.py": "import a\napp.include_router(a.router)\n", "api/a.py": FASTAPI}, "/r/x"),
        (
            {
                "m.py": "app = FastAPI()\nsub = FastAPI(docs_url=None)\napp.mount('/sub', sub)\n"
                "@sub.get('/x')\ndef f(): ...\n"
            },
            "/sub/x",
        ),
        ({"m.py": "if a:\n    P = '/a'\nelse:\n    P = '/b'\n@app.get(P)\ndef f(): ...\n"}, None),
        (
            {"m.py": "from n import P\n@app.get(path=P)\ndef f(): ...", "n.py": "from o import P", "o.py": "P='/p'"},
            "/p",
        ),
        ({"m.py": "from m import P\n@app.get(P)\ndef f(): ...\n"}, None),
        ({"m.py": "r = APIRouter()\nr.include_router(r)\n@r.get('/x')\ndef f(): ...\n"}, None),
    ],
)
def test_how_servers_include_routers(files: dict[str, str], path: str | None) -> None:
    assert {one for found in routes(files).values() for one in found} == ({path} if path else set())


def test_a_server_with_routers_is_described_by_its_real_paths(tmp_path: Path) -> None:
    main = "from fastapi import FastAPI\nfrom api import router\napp = FastAPI()\n"
    api = "from fastapi import APIRouter\nrouter = APIRouter()\n@router.post('/predict')\ndef f(x: str): ...\n"
    files: dict[str, str | bytes] = {
        "main.py": f"{main}app.include_router(router, prefix='/v1')\n",
        "api.py": f"{api}@router.get('/health/heartbeat')\ndef g(): ...\n",
    }
    server = detect(write(tmp_path, files)).server
    assert server
    assert (server.routes.live, server.routes.predict) == ("/v1/health/heartbeat", "/v1/predict")


@pytest.mark.parametrize(
    ("made", "load", "live", "ready"),
    [
        ("FastAPI()", "m = joblib.load('m.pkl')", "/docs", "/docs"),
        ("FastAPI(title='x')", "", "/docs", "/docs"),
        ("FastAPI(docs_url=None)", "", None, None),
        ("FastAPI(openapi_url=URL)", "", None, None),
        ("Flask(__name__)", "m = joblib.load('m.pkl')", None, None),
    ],
)
def test_a_server_without_a_health_route_is_live_when_its_docs_answer(
    tmp_path: Path, made: str, load: str, live: str | None, ready: str | None
) -> None:
    text = f"import joblib\n{load}\napp = {made}\n@app.post('/predict')\ndef f(x: str): ...\n"
    server = detect(write(tmp_path, {"app.py": text})).server
    assert server
    assert (server.routes.live, server.routes.ready) == (live, ready)


@pytest.mark.parametrize(
    "code",
    [
        "class P(Resource):\n    def post(self): ...\n    def get(self): ...\nApi(app).add_resource(P, '/predict')\n",
        "api = Api(app)\n@api.route('/predict')\nclass P(Resource):\n    @api.expect(x)\n    def post(self): ...\n",
        "def f(): ...\napp.add_url_rule('/predict', view_func=f, methods=['POST'])\n",
        "def f(): ...\napp.add_url_rule('/predict', 'name', f, methods=['POST'])\n",
        "def f(): ...\napp.add_url_rule(view_func=f, rule='/predict', methods=['POST'])\n",
        "def f(): ...\napp.add_api_route(endpoint=f, path='/predict', methods=['POST'])\n",
        "def f(): ...\napp.add_route('/predict', f, methods=['POST'])\n",
    ],
)
def test_routes_without_decorators(tmp_path: Path, code: str) -> None:
    server = detect(write(tmp_path, {"app.py": f"app = Flask(__name__)\n{code}"})).server
    assert server
    assert server.routes.predict == "/predict"


def test_the_path_of_a_namespace_is_not_guessed(tmp_path: Path) -> None:
    code = (
        "api = Api(app)\nns = api.namespace('v1')\n@ns.route('/predict')\nclass P(Resource):\n    def post(self): ...\n"
    )
    server = detect(write(tmp_path, {"app.py": f"app = Flask(__name__)\n{code}"})).server
    assert server
    assert server.routes.predict is None  # it is /v1/predict, unless the namespace has another path


def test_a_server_with_a_prediction_route_comes_first(tmp_path: Path) -> None:
    train = (
        "from fastapi import FastAPI\napp = FastAPI()\nmodel = joblib.load('m.pkl')\n@app.get('/train')\ndef f(): ..."
    )
    serve = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/v1/predict')\ndef f(x: str): ...\n"
    server = detect(write(tmp_path, {"a_train.py": train, "b.py": serve})).server
    assert server
    assert server.path == "b.py"
