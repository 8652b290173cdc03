"""hadolint, checkov and trivy find nothing in what mlship writes, except what a table of docs/audit.md explains."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.helpers.judges import JUDGES, ROOT, trivy_image
from tests.helpers.outputs import write_outputs
from tests.helpers.planted import planted
from tests.helpers.repos import write
from tests.helpers.saved_images import saved_image

HEADING = "## What outside judges find"
# Files that a judge must have an opinion on: one that reads nothing finds nothing.
READ = {
    "hadolint": ("dockerfiles/*/Dockerfile", "export/Dockerfile"),
    "checkov": (
        *("dockerfiles/*/Dockerfile", "export/Dockerfile", "kubernetes/deployment*.yaml", "kubernetes/*-pod-*.yaml"),
        *("kubernetes/job*.yaml", "ci-*/.github/workflows/image.yml", "ci-*/.gitlab-ci.yml"),
    ),
    "trivy": ("dockerfiles/*/Dockerfile", "export/Dockerfile", "kubernetes/*.yaml"),
}
FAULTS: dict[str, str | bytes] = {
    "Dockerfile": "FROM python:latest\nRUN sudo pip install x\n",
    "pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
    "spec: {hostNetwork: true, containers: [{name: a, image: a}]}\n",
}


@dataclass(frozen=True)
class Explained:
    """A row of the table."""

    judge: str
    check: str
    patterns: tuple[str, ...]

    def fits(self, found: tuple[str, str]) -> bool:
        return self.check == found[0] and any(fnmatch(found[1], pattern) for pattern in self.patterns)


def explained() -> list[Explained]:
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [
        Explained(judge, check, tuple(re.findall(r"`([^`]+)`", files)))
        for judges, files, why in rows[2:]
        if why
        for judge, check in re.findall(r"(\w+) (\w+)", judges)
    ]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        write_outputs(folder, tmp_path_factory.mktemp("work"))
    return folder


@pytest.mark.parametrize("name", JUDGES)
def test_every_finding_is_explained_and_every_explanation_needed(name: str, outputs: Path) -> None:
    judged = JUDGES[name](outputs)
    for pattern in READ[name]:
        files = {path.relative_to(outputs).as_posix() for path in outputs.glob(pattern)}
        assert files
        assert files <= judged.files
    rows = [row for row in explained() if row.judge == name]
    assert sorted(found for found in judged.found if not any(row.fits(found) for row in rows)) == []
    assert [row for row in rows if not any(row.fits(found) for found in judged.found)] == []


@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("hadolint", {"DL3007", "DL3004"}),
        ("checkov", {"CKV_DOCKER_7", "CKV_DOCKER_3", "CKV_K8S_19"}),
        ("trivy", {"DS001", "DS002", "KSV009", "github-pat"}),
    ],
)
def test_a_judge_finds_planted_faults(name: str, checks: set[str], tmp_path: Path) -> None:
    write(tmp_path, {**FAULTS, "settings.py": f'TOKEN = "{planted("github", 0)}"\n'})
    assert checks <= {check for check, _file in JUDGES[name](tmp_path).found}


def test_trivy_reads_the_layers_of_an_image(tmp_path: Path) -> None:
    text = f'TOKEN = "{planted("github", 0)}"\n'.encode()
    (tmp_path / "image.tar").write_bytes(saved_image([{"app/settings.py": text}], {}))
    assert [check for check, _file in trivy_image(tmp_path / "image.tar").found] == ["github-pat"]
