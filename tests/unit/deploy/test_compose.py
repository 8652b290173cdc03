"""`mlship export --as compose`: everything that the file mounts and names is there, and as confined as production."""

import json
from pathlib import Path

import pytest
import yaml

from tests.helpers.command import Command, mlship_in_process
from tests.helpers.generated_server import initialised
from tests.helpers.repos import onnx_bytes, write

MODEL: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'}


def export(repo: Path, folder: Path, *options: str) -> Command:
    return mlship_in_process("export", str(folder), "--as", "compose", *options, cwd=repo)


@pytest.mark.parametrize("shadow", [True, False])
def test_a_laptop_gets_all_that_the_file_names(tmp_path: Path, shadow: bool) -> None:
    repo, folder = initialised(tmp_path / "wine", MODEL, *["shadow"] * shadow), tmp_path / "laptop"
    done = export(repo, folder)
    assert done.code == 0, done.stderr
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert [*services] == ["server", *(["candidate"] if shadow else []), "prometheus", "grafana"]
    assert services["server"]["environment"].get("SHADOW_URL") == ("http://candidate:8080" if shadow else None)
    for one in services.values():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", []))
        for mount in one.get("volumes", []):
            assert (folder / mount.partition(":")[0]).is_file()
    for name in ("server", "candidate") if shadow else ("server",):
        confined = services[name]
        assert (confined["read_only"], confined["cap_drop"]) == (True, ["ALL"])
        assert confined["security_opt"] == ["no-new-privileges:true"]
    scraped = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
    assert [one["static_configs"][0]["targets"] for one in scraped] == [
        [f"{name}:8080"] for name in services if name in {"server", "candidate"}
    ]
    for name in ("alerts.yml", "dashboard.json"):
        assert (folder / name).read_text() == (repo / "monitoring" / name).read_text()
    titles = [panel["title"] for panel in json.loads((folder / "dashboard.json").read_text())["panels"]]
    assert any("Shadow" in title for title in titles) is shadow
    assert yaml.safe_load((folder / "datasource.yml").read_text())["datasources"][0]["url"] == "http://prometheus:9090"
    assert "dashboards" in yaml.safe_load((folder / "dashboards.yml").read_text())["providers"][0]["options"]["path"]


def test_a_folder_that_exists_is_not_changed(tmp_path: Path) -> None:
    repo = initialised(tmp_path / "wine", MODEL)
    (tmp_path / "laptop").mkdir()
    assert export(repo, tmp_path / "laptop").code == 2
    assert [*(tmp_path / "laptop").iterdir()] == []


def test_another_server_is_refused(tmp_path: Path) -> None:
    repo = initialised(tmp_path / "wine", MODEL)
    for name in ("monitoring/alerts.yml", "mlship.yaml"):
        path, text = repo / name, (repo / name).read_text()
        path.unlink()
        if name == "mlship.yaml":
            write(repo, {name: text.replace("[python, -m, serving]", "[uvicorn, app:app]")})
        done = export(repo, tmp_path / "laptop")
        assert done.code == 2
        assert "`--as compose` needs the server and the `monitoring/` that `mlship init` writes" in done.stderr
        path.write_text(text)
    assert export(repo, tmp_path / "laptop").code == 0


def test_options_of_the_build_are_refused(tmp_path: Path) -> None:
    done = export(tmp_path, tmp_path / "laptop", "--platform", "linux/amd64")
    assert (done.code, "`--as compose` takes no other options than `-C`" in done.stderr) == (2, True)
