"""Programs of others that judge Dockerfiles, Kubernetes, pipelines and images. `make judges` installs them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.patience import limit
from tests.helpers.required import unavailable

ROOT = Path(__file__).parents[2]
_OFFLINE = ("--quiet", "--skip-db-update", "--skip-java-db-update", "--skip-check-update", "--offline-scan")


@dataclass(frozen=True)
class Judged:
    """What a judge says about a folder.

    Attributes:
        found: the name of the check, and the file from the folder.
        files: the files that it says something about, good or bad.
    """

    found: frozenset[tuple[str, str]]
    files: frozenset[str]


def program(name: str) -> str:
    """The path of a judge; without it, the test skips."""
    own = [Path(sys.executable).parent, ROOT / ".judges/bin"]
    found = shutil.which(name, path=":".join(map(str, own))) or shutil.which(name)
    return found or unavailable(f"{name} is not installed; `make judges` does", "judges")


def hadolint(folder: Path) -> Judged:
    """Every Dockerfile."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("Dockerfile"))
    rows = json.loads(_output([program("hadolint"), "--no-fail", "--format=json", *files], folder))
    return Judged(frozenset((row["code"], row["file"]) for row in rows), frozenset(files))


def checkov(folder: Path) -> Judged:
    """Dockerfiles, Kubernetes, pipelines of GitHub and GitLab, and credentials."""
    kinds = ("dockerfile", "kubernetes", "github_actions", "gitlab_ci", "secrets")
    options = ("--skip-download", "--compact", "--soft-fail", "--output=json", "--framework", *kinds)
    answer = json.loads(_output([program("checkov"), "--directory=.", *options], folder))
    parts = [part["results"] for part in (answer if isinstance(answer, list) else [answer]) if "results" in part]
    rows = [row for part in parts for row in (*part["failed_checks"], *part["passed_checks"])]
    failed = [row for part in parts for row in part["failed_checks"]]
    return Judged(
        frozenset((row["check_id"], row["file_path"].lstrip("/")) for row in failed),
        frozenset(row["file_path"].lstrip("/") for row in rows),
    )


def trivy(folder: Path) -> Judged:
    """Dockerfiles, Kubernetes and credentials; its database of vulnerabilities is not asked."""
    return _trivy(["filesystem", "--scanners=misconfig,secret", "."], folder)


def trivy_image(archive: Path) -> Judged:
    """Credentials and configuration files in an image that `docker save` wrote."""
    return _trivy(["image", "--scanners=misconfig,secret", f"--input={archive.name}"], archive.parent)


JUDGES: dict[str, Callable[[Path], Judged]] = {"hadolint": hadolint, "checkov": checkov, "trivy": trivy}


def _trivy(arguments: list[str], folder: Path) -> Judged:
    options = ("--include-non-failures", "--format=json", *_OFFLINE)
    results = json.loads(_output([program("trivy"), *arguments, *options], folder)).get("Results", [])
    failed = [
        (row.get("ID") or row["RuleID"], result["Target"])
        for result in results
        for row in (*result.get("Misconfigurations", ()), *result.get("Secrets", ()))
        if row.get("Status") != "PASS"
    ]
    return Judged(frozenset(failed), frozenset(result["Target"] for result in results))


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit(300), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
