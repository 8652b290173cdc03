"""`mlship export --as compose`: the generated server, its shadow, Prometheus and Grafana for one machine.

https://github.com/compose-spec/compose-spec/blob/main/spec.md
"""

from collections.abc import Iterator
from pathlib import Path

from mlship.errors import UsageError
from mlship.files import check_new, read_regular, write_atomic
from mlship.leftovers import temporary_folder
from mlship.project.config import Config
from mlship.render import render

_MONITORING = ("alerts.yml", "dashboard.json")
_TEMPLATES = ("compose.yaml", "prometheus.yml", "datasource.yml", "dashboards.yml")


def export_compose(repo: Path, config: Config, folder: Path) -> tuple[str, ...]:
    """Write a Compose file and what it mounts; the folder appears complete or not at all.

    Returns:
        The names of the files.

    Raises:
        UsageError: the folder exists, or the repository has no server that `mlship init` wrote.
    """
    check_new(folder)
    files = dict(_files(repo, config))
    with temporary_folder("export", beside=folder) as temporary:
        new = temporary / folder.name
        new.mkdir()
        for name, text in files.items():
            write_atomic(new / name, text)
        new.rename(folder)
    return tuple(files)


def _files(repo: Path, config: Config) -> Iterator[tuple[str, str]]:
    shadow = (_package(repo, config) / "shadow.py").is_file()
    for name in _TEMPLATES:
        yield name, render(f"compose/{name}.j2", name=config.name, port=config.serve.port, shadow=shadow)
    for name in _MONITORING:
        yield name, read_regular(repo / "monitoring" / name)


def _package(repo: Path, config: Config) -> Path:
    """The folder of the generated server."""
    match config.serve.command:
        case ("python", "-m", package) if all((repo / "monitoring" / name).is_file() for name in _MONITORING):
            return repo / package
        case _:
            raise UsageError(
                "`--as compose` needs the server and the `monitoring/` that `mlship init` writes",
                hint="run `mlship init`; beside a server of your own: `mlship init --serving`",
            )
