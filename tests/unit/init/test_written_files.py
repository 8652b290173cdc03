"""What a server writes outside of /tmp, and the variables that nothing sets, are said."""

import ast
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.load_calls import path_constants
from mlship.init.written_files import find_written_files, read_variables
from tests.helpers.repos import write


def written(code: str) -> list[str]:
    nodes = list(ast.walk(ast.parse(code)))
    return [one.text for one in find_written_files(nodes, path_constants(nodes, "app.py"))]


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("logging.basicConfig(level=1, filename='app.log')", "app.log"),
        ("logging.FileHandler('logs/app.log')", "logs/app.log"),
        ("sqlite3.connect('p.db')", "p.db"),
        ("UPLOADS = 'static/uploads'\nos.makedirs(UPLOADS, exist_ok=True)", "static/uploads"),
        ("app.config['UPLOAD_FOLDER'] = 'uploads/'", "uploads/"),
        ("UPLOAD_FOLDER = 'up'  # of another module", "up"),
        ("UPLOAD_FOLDER = 'up'\napp.config['UPLOAD_FOLDER'] = UPLOAD_FOLDER\nos.makedirs(UPLOAD_FOLDER)", "up"),
        ("app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///site.db'", "site.db"),
        ("db = connect(os.environ.get('URL') or 'sqlite:///p.db')", "p.db"),
        ("open('log.txt', 'a')", "log.txt"),
        ("open(file='log.txt', mode='w')", "log.txt"),
        ("df.to_csv(os.path.join('data', 'x.csv'), index=False)", "data/x.csv"),
        ("Path('log.txt').open('a')", "log.txt"),
        ("gzip.open('log.gz', 'wb')", "log.gz"),
        ("tarfile.open('log.tgz', 'w:gz')", "log.tgz"),
        ("Path('out', 'x.txt').write_text('hello')", "out/x.txt"),
        ("OUT = Path(__file__).parent / 'x.bin'\nOUT.write_bytes(b'')", "x.bin"),
        ("(Path('logs') / 'a').mkdir(parents=True)", "logs/a"),
        ("os.makedirs(os.path.join(os.path.dirname(__file__), 'up'))", "up"),
    ],
)
def test_written(code: str, path: str) -> None:
    assert written(code) == [path]


@pytest.mark.parametrize(
    "code",
    [
        "open('log.txt')",
        "open('log.txt', 'rb')",
        "gzip.open('data.gz')",
        "Path('data.wav').open()",
        "Path('data.txt').read_text()",
        "tempfile.TemporaryFile().write_text('x')",
        "open('/tmp/log.txt', 'w')",
        "open(path, 'w')",
        "sqlite3.connect(':memory:')",
        "logging.basicConfig(level=1)",
        "app.config['SQLALCHEMY_DATABASE_URI'] = 'postgresql://db/x'",
        "def train_model():\n    open('model.pkl', 'wb')",
        "os.mkdir()",
    ],
)
def test_not_written(code: str) -> None:
    assert written(code) == []


def test_it_is_said(tmp_path: Path) -> None:
    code = "from flask import Flask\napp = Flask(__name__)\napp.config['UPLOAD_FOLDER'] = 'uploads'\n"
    notes = detect(write(tmp_path, {"app.py": code})).notes
    assert "only /tmp is writable in the image, but the server writes `uploads` (app.py, line 3)" in notes


@pytest.mark.parametrize(
    "code",
    [
        "M = os.environ['M']",
        "from os import environ\nM = environ['M']",
        "M = os.getenv('M')",
        "load(os.environ.get('M'))",
        "class S:\n def f(self): return int(os.environ['M'])",
        "M = x or os.getenv('M')",
        "class S(BaseSettings):\n m: str\n n: int = 1\n o: str = os.getenv('O', 'x')",
        "class S(pydantic.BaseSettings):\n x: str = Field(..., env='M')",
        "class S(BaseSettings):\n x: str = Field(validation_alias='M')",
        "os.environ['OTHER'] = os.environ['M']",
        "f'{os.environ[\"M\"]}/x'",
        "if os.environ['M'] == 'x':\n x = 1",
        "if int(os.getenv('M')) > 1:\n x = 1",
        "M = os.environ['M'] or 'x'",
        "if __name__ == '__main__':\n pass\nelse:\n M = os.environ['M']",
        "class S(BaseSettings):\n m: str\n _n: int\n o: ClassVar[str]\n p: typing.ClassVar[str]",
    ],
)
def test_a_variable_without_a_default_is_read(code: str) -> None:
    assert read_variables(list(ast.walk(ast.parse(code)))) == {"M"}


@pytest.mark.parametrize(
    "prefix",
    [
        "model_config = SettingsConfigDict(env_prefix='app_')",
        "model_config = {'env_prefix': 'APP_'}",
        "class Config:\n  env_prefix = 'APP_'",
    ],
)
def test_a_setting_has_its_prefix(prefix: str) -> None:
    code = f"class S(BaseSettings):\n {prefix}\n m: str\nclass T(BaseModel):\n t: str\n"
    assert read_variables(list(ast.walk(ast.parse(code)))) == {"APP_M"}


@pytest.mark.parametrize(
    "code",
    [
        "M = os.getenv('M', 'x')",
        "M = os.environ.get('M', default='x')",
        "M = os.getenv('M') or 'x'",
        "os.environ['M'] = 'x'\nload(os.environ['M'])",
        "os.environ.setdefault('M', 'x')\nload(os.environ['M'])",
        "if 'M' in os.environ:\n load(os.environ['M'])",
        "if os.getenv('M'):\n x = 1",
        "x = 1 if os.environ.get('M') else 2",
        "x = os.getenv('M') == '1'",
        "if (m := os.getenv('M')):\n x = 1",
        "if y and os.getenv('M'):\n x = 1",
        "x = not os.environ.get('M')",
        "x = int(os.getenv('M') in ('a', 'b'))",
        "try:\n M = os.environ['M']\nexcept KeyError:\n M = 'x'",
        "if __name__ == '__main__':\n app.run(port=int(os.environ['M']))",
        "M = settings.environ['M']",
        "def app(environ, start_response):\n return environ['M'], environ.get('N')",
        "M = os.getenv(name)",
    ],
)
def test_a_variable_that_is_set_or_not_needed_is_no_gap(code: str) -> None:
    assert read_variables(list(ast.walk(ast.parse(code)))) == frozenset()
