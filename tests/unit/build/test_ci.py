"""The printed pipelines are YAML, run only mlship's real commands and options, and push only from the main branch."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from mlship import __version__
from mlship.build.ci import CiService, pipeline
from mlship.cli.app import app
from mlship.project.load import parse_config
from tests.helpers.toy import YAML

SERVICES: tuple[CiService, ...] = get_args(CiService)


def scripts(service: CiService, text: str) -> list[str]:
    found = yaml.safe_load(text)
    if service == "github":
        return [step["run"] for step in found["jobs"]["image"]["steps"] if "run" in step]
    return list(found["image"]["script"])


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("gpu", [False, True])
def test_every_command_and_option_exists(service: CiService, *, gpu: bool) -> None:
    text = pipeline(service, parse_config(YAML + ("gpu: {}\n" if gpu else "")))
    calls = [
        shlex.split(line)[1:]
        for line in re.findall(r"^ *(mlship .*)$", "\n".join(scripts(service, text)), re.MULTILINE)
    ]
    assert [call[0] for call in calls] == ["lock", "build", "build", "verify"]
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    context = program.make_context("mlship", [], resilient_parsing=True)
    for call in calls:
        command = program.get_command(context, call[0])
        assert command
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in call if word.startswith("--")} <= known
    assert all(("--smoke" in call) == gpu for call in calls if call[0] == "build")


@pytest.mark.parametrize("service", SERVICES)
def test_the_wheel_has_the_name_that_pip_gives_it(service: CiService) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    wheel = f"{re.sub(r'[-_.]+', '_', project['name'])}-{__version__}-py3-none-any.whl"
    assert f"MLSHIP: tools/{wheel}\n" in pipeline(service, parse_config(YAML))


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_main_branch_pushes(service: CiService) -> None:
    text = pipeline(service, parse_config(YAML))
    if service == "github":
        steps = [step for step in yaml.safe_load(text)["jobs"]["image"]["steps"] if "--push" in step.get("run", "")]
        assert [step["if"] for step in steps] == ["github.event_name == 'push'"]
    else:
        (script,) = (script for script in scripts(service, text) if "--push" in script)
        assert script.startswith('if [ "$CI_COMMIT_BRANCH" = "$CI_DEFAULT_BRANCH" ]; then\n')


def test_credentials_reach_only_the_login() -> None:
    steps = yaml.safe_load(pipeline("github", parse_config(YAML)))["jobs"]["image"]["steps"]
    assert [step["name"] for step in steps if "secrets." in str(step)] == ["Log in to the registry"]
