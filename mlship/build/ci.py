"""Pipelines for CI services: `mlship ci` prints them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship import __version__
from mlship.project.config import Config
from mlship.render import render

CiService: TypeAlias = Literal["github", "gitlab"]

PYTHON = "3.11"  # mlship's own, not the image's
_IMAGES: dict[CiService, tuple[str, str]] = {
    "github": ("$REGISTRY/${GITHUB_REPOSITORY,,}", "$GITHUB_SHA"),  # image names are lower-case
    "gitlab": ("$CI_REGISTRY_IMAGE", "$CI_COMMIT_SHA"),
}


@dataclass(frozen=True)
class CiStep:
    """A step of the pipeline.

    Attributes:
        lines: of bash.
        when: only for pushes to the main branch, or only for changes that are under review.
        login: it needs the registry's credentials.
    """

    title: str
    lines: tuple[str, ...]
    when: Literal["always", "push", "review"] = "always"
    login: bool = False


def pipeline(service: CiService, config: Config) -> str:
    """The pipeline of a repository, as YAML."""
    steps = tuple(_steps(config, *_IMAGES[service]))
    return render(f"ci/{service}.yml.j2", version=__version__, python=PYTHON, steps=steps)


def _steps(config: Config, image: str, commit: str) -> Iterator[CiStep]:
    name = f"{image}/{config.name}"
    cache = f'--cache-from "{name}:cache"'
    build = f'mlship build --tag "{name}:{commit}" {cache}' + (" --smoke cpu" if config.gpu else "")
    login = 'echo "$REGISTRY_PASSWORD" | docker login --username "$REGISTRY_USER" --password-stdin "$REGISTRY"'
    yield CiStep("Install mlship", ('pip install --quiet "$MLSHIP"',))
    yield CiStep("Check the lock", ("mlship lock --check",))
    yield CiStep("Log in to the registry", (login,), login=True)
    yield CiStep("Build and prove", (build,), "review")
    yield CiStep("Build, prove and push", (f'{build} --cache-to "{name}:cache" --push',), "push")
    verify = f'mlship verify "{name}:{commit}"'
    if config.gpu:
        proof = f'# Runners have no GPU. On a GPU host: mlship smoke "{name}:{commit}" --on gpu --attest'
        cluster = f'# In a cluster: mlship smoke "{name}:{commit}" --kubernetes --apply --attest'
        yield CiStep("Verify the proof", (verify, proof, cluster), "push")
    else:
        yield CiStep("Verify the proof", (verify,), "push")
