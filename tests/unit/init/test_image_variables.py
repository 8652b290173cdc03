"""The variables of the repository's image: carried over, translated, or named with the reason."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.init.builds import find_build
from mlship.init.detect import detect
from mlship.init.image_variables import ImageVariables, image_variables
from mlship.init.scaffold import scaffold
from mlship.init.tree import read_tree
from mlship.project.load import parse_config
from mlship.redact import has_credentials
from tests.helpers.repos import write
from tests.helpers.sampling import examples

HEAD = "FROM python:3.11-slim\nWORKDIR /srv/service\nCOPY . .\n"
CODE = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/predict')\ndef predict(): ...\n"


def variables(repo: Path, lines: str) -> ImageVariables:
    write(repo, {"Dockerfile": f"{HEAD}{lines}\nCMD uvicorn main:app\n", "models/a.json": "{}", "main.py": CODE})
    tree = read_tree(repo)
    return image_variables(tree, find_build(tree))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("ENV MODEL_NAME=resnet THRESHOLD=0.5", {"MODEL_NAME": "resnet", "THRESHOLD": "0.5"}),
        ("ENV MODELS=/srv/service/models", {"MODELS": "/app/models"}),
        ("WORKDIR models\nENV M=/srv/service/models/a.json", {}),
        ("ENV HERE=/srv/service", {"HERE": "/app"}),
        ("ENV CACHE=/tmp/cache", {"CACHE": "/tmp/cache"}),
        ("ARG V=2\nENV VERSION=v$V", {"VERSION": "v2"}),
        (
            "ENV PIPELINE=churn UVICORN_WORKERS=2 CUDAGRAPH=1",
            {"PIPELINE": "churn", "UVICORN_WORKERS": "2", "CUDAGRAPH": "1"},
        ),
        ("ENV ON=1 NULL=2", {"ON": "1", "NULL": "2"}),
        ("ENV PATH=/x:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 NVIDIA_VISIBLE_DEVICES=all HOME=/root", {}),
    ],
)
def test_a_variable_keeps_its_meaning_in_the_image(tmp_path: Path, lines: str, found: dict[str, str]) -> None:
    assert variables(tmp_path, lines).values == found


@pytest.mark.parametrize(
    ("lines", "note"),
    [
        ("ENV API_KEY=x", "`API_KEY`: may be secret"),
        ("ENV DB_URL=postgres://u:hunter2@db/x", "`DB_URL`: may be secret"),
        ("ARG TAG\nENV VERSION=$TAG", "`VERSION`: known only when that image is built"),
        ("ENV HF_HOME=/root/.cache", "`HF_HOME` (/root/.cache): a path that the image does not have"),
        ("ENV A=/a B=/b C=/c D=/d", "`A` (/a), `B` (/b), `C` (/c), `D` (/d): a path"),
        ("ENV CACHE=/srv/service/cache", "`CACHE` (/srv/service/cache): a path that the image does not have"),
        ("ENV MY-VAR=1 my.var=2", "`MY-VAR`, `my.var`: a name or a value that mlship.yaml cannot hold"),
        ('ENV TAB="x\ty"', "`TAB`: a name or a value that mlship.yaml cannot hold"),
    ],
)
def test_what_is_not_carried_over_is_named(tmp_path: Path, lines: str, note: str) -> None:
    found = variables(tmp_path, lines)
    assert found.values == {}
    assert [note in text for text in found.notes] == [True]


NAMES = st.sampled_from(["VALUE", "ON", "no", "NULL", "TRUE", "y", "MY-VAR", "e1"])
VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="$\\\"'"), max_size=20)


@given(NAMES, VALUES)
@settings(max_examples=examples(40), deadline=None)
def test_any_variable_reaches_mlship_yaml_unchanged(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    repo = write(tmp_path_factory.mktemp("repo"), {"main.py": CODE})
    write(repo, {"Dockerfile": f'{HEAD}ENV {name}="{value}"\nCMD uvicorn main:app\n'})
    found = detect(repo)
    text = next(file.text for file in scaffold(found).files if file.path == "mlship.yaml")
    outside = value.startswith("/") and value.split("/")[1] != "tmp"
    expected = {} if outside or "-" in name or has_credentials(value) else {name: value}
    assert (yaml.safe_load(text).get("env") or {}) == expected
    assert parse_config(text.replace("# sample:", "sample:")).env == expected


def test_variables_that_only_the_code_reads_are_named(tmp_path: Path) -> None:
    code = f"import os\nimport conf\nM, D, H = os.environ['MODEL'], os.environ['DATA'], os.environ['HOME']\n{CODE}"
    files = {"conf.py": "import os\nKEY = os.getenv('API_KEY')\n", "train.py": "import os\nX = os.environ['RUN']\n"}
    write(tmp_path, {"Dockerfile": f"{HEAD}ENV DATA=x\nCMD uvicorn main:app\n", "main.py": code, **files})
    (note,) = (one for one in scaffold(detect(tmp_path)).notes if one.startswith("the image does not set"))
    assert note.startswith(
        "the image does not set `API_KEY`, `MODEL`, which the code reads from its environment: set under"
    )
    (tmp_path / "main.py").unlink()
    (tmp_path / "Dockerfile").unlink()
    assert not any("the image does not set" in one for one in scaffold(detect(tmp_path)).notes)
