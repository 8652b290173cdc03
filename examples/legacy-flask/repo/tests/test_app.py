import json
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app import app  # noqa: E402


@pytest.fixture
def client() -> FlaskClient:
    return app.test_client()


def test_is_healthy(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_answers_the_sample_request(client: FlaskClient) -> None:
    wines = json.loads((ROOT / "examples" / "request.json").read_text(encoding="utf-8"))
    answer = client.post("/predict", json=wines).get_json()
    assert len(answer["cultivars"]) == len(wines["wines"])
    assert [sum(row) for row in answer["probabilities"]] == pytest.approx([1.0] * len(wines["wines"]), abs=1e-5)


@pytest.mark.parametrize(
    "body",
    ["", "not json", "[]", "{}", '{"wines": []}', '{"wines": [[1, 2]]}', '{"wines": [["a"]]}', '{"wines": [[NaN]]}'],
)
def test_refuses_a_bad_request(client: FlaskClient, body: str) -> None:
    response = client.post("/predict", data=body, content_type="application/json")
    assert response.status_code == 400
    assert response.get_json()["error"]
