"""Pages of Streamlit and Gradio are no servers for a sample: that is said, and the image gets nothing for them."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from tests.helpers.repos import write

PAGE = "import {0} as ui\nimport pickle, plotly\nmodel = pickle.load(open('app/model.pkl', 'rb'))\n"
MODEL: dict[str, str | bytes] = {"app/model.pkl": b"\x80\x04N."}


@pytest.mark.parametrize(("library", "title"), [("streamlit", "Streamlit"), ("gradio", "Gradio")])
def test_a_page_is_said_and_not_served(tmp_path: Path, library: str, title: str) -> None:
    found = detect(write(tmp_path, MODEL | {"app/page.py": PAGE.format(library)}))
    (note,) = (note for note in found.notes if title in note)
    assert note.startswith(f"`app/page.py` is for {title}, whose pages have no route that takes a sample")
    assert found.server is None
    assert found.weights.named == ("app/model.pkl",)
    assert found.imports.known == ()


def test_a_server_or_a_loader_beside_a_page_is_served(tmp_path: Path) -> None:
    write(tmp_path, MODEL | {"page.py": PAGE.format("streamlit"), "model.py": "import joblib\ndef load(): return 1\n"})
    found = detect(tmp_path)
    assert found.loader.value == "model:load"
    assert not any("Streamlit" in note for note in found.notes)
    write(tmp_path, {"main.py": "from fastapi import FastAPI\nimport gradio\napp = FastAPI()\n"})
    found = detect(tmp_path)
    assert found.server
    assert [need.line for need in found.imports.known][:1] != []
    assert not any("Gradio" in note for note in found.notes)
