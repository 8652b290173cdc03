"""`mlship size` on images of a real engine."""

import json
import os
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from mlship.cli.app import app
from mlship.engine.base import BuildRequest, Engine
from mlship.size.report import SizeReport
from tests.helpers.layouts import record
from tests.helpers.patience import limit

SITE = "layers/light/six/opt/venv/lib/python3.11/site-packages"
DOCKERFILE = """\
FROM {base}
USER 0
COPY --link layers/light/six /
RUN cat /bin/* > /big && cat /bin/* > /kept
RUN echo > /big
WORKDIR /app
COPY {model} /app/
USER 1001:1001
"""


@pytest.fixture
def built(engine: Engine, tiny_base: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two images that differ only in their model."""
    for path, data in record(SITE, "six", "1.17", {"six.py": b"x = 6\n" * 100}).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    name = f"mlship-test-{uuid4().hex[:12]}"
    tags = f"{name}:1", f"{name}:2"
    try:
        for number, tag in enumerate(tags):
            (tmp_path / f"{number}.onnx").write_bytes(bytes([number]) * 5000)
            text = DOCKERFILE.format(base=tiny_base, model=f"{number}.onnx")
            engine.build(BuildRequest(text, "", tmp_path, engine.info().platform, tag=tag), lambda _: None)
        yield tags
    finally:
        subprocess.run(("docker", "image", "rm", "--force", *tags), capture_output=True, check=False, timeout=limit(60))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["size", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_built_image(built: tuple[str, str], tmp_path: Path) -> None:
    first, second = built
    found = SizeReport.from_json(run(first, "--json"), first)
    parts = {part.name: part for part in found.parts}
    assert (parts["six"].version, parts["six"].group, parts["six"].sorts["code"]) == ("1.17", "light", 600)
    assert (parts["/app/0.onnx"].group, parts["/app/0.onnx"].bytes) == ("weights", 5000)
    hidden = next(waste for waste in found.waste if waste.id == "hidden")
    assert hidden.where == ("/big",)
    assert sum(part.bytes for part in found.parts) + found.totals.hidden == found.totals.unpacked
    assert any((layer.made_by or "").startswith("COPY") for layer in found.layers)
    old = tmp_path / "old.json"
    old.write_text(run(first, "--json"))
    assert run(second, "--against", str(old)) == run(second, "--against", first)
    changes = json.loads(run(second, "--against", first, "--json"))["against"]
    assert {change["name"] for change in changes["changes"]} == {"/app/0.onnx", "/app/1.onnx"}
    assert changes["pulled"] == [len(found.layers)]


def test_a_scan_reads_the_layers_that_the_engine_saves(built: tuple[str, str], engine: Engine, tmp_path: Path) -> None:
    """A pickle that a later layer removes is found, and where; nothing runs."""
    clean = CliRunner().invoke(app, ["scan", built[0], "--json"])
    (unknown,) = json.loads(clean.stdout)["files"]
    assert (clean.exit_code, unknown["path"], unknown["verdict"]) == (1, "app/0.onnx", "unknown")
    (tmp_path / "weights.bin").write_bytes(pickle.dumps(os.system))
    text = f"FROM {built[0]}\nUSER 0\nCOPY weights.bin /app/\nRUN echo > /app/weights.bin\n"
    engine.build(
        BuildRequest(text, "", tmp_path, engine.info().platform, tag=built[1], own_builder=True), lambda _: None
    )
    found = CliRunner().invoke(app, ["scan", built[1], "--json"])
    code = [file for file in json.loads(found.stdout)["files"] if file["verdict"] == "code"]
    assert [(file["path"], file["uses"]) for file in code] == [("app/weights.bin", ["posix.system"])]
    assert code[0]["layer"]
    assert found.exit_code == 1


def test_size_agrees_with_the_engine(built: tuple[str, str], engine: Engine) -> None:
    """If the engine stores compressed layers, its image size equals ours, apart from some JSON."""
    found = SizeReport.from_json(run(built[0], "--json"), built[0])
    info = engine.image(built[0])
    assert info is not None
    if found.totals.compressed is None:
        pytest.skip("this engine keeps layers uncompressed")
    assert 0 <= info.size - found.totals.compressed < 20_000


def test_the_image_by_its_id(built: tuple[str, str], engine: Engine) -> None:
    info = engine.image(built[0])
    assert info is not None
    assert json.loads(run(info.id, "--json"))["layers"] == json.loads(run(built[0], "--json"))["layers"]
