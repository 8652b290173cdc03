"""Every example is detected as its expect.toml says, also where its model has not been fetched yet."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from mlship.project.weights import check_weights
from tests.helpers.examples import Example, examples, with_tiny_weights


@pytest.fixture(params=examples(), ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


def test_it_is_detected(example: Example, tmp_path: Path) -> None:
    found = detect(with_tiny_weights(example, example.copy(tmp_path)))
    assert found.framework.value == example.framework
    assert found.evidence
    assert found.python.value == example.python
    assert [file.path for file in found.weights.models] == example.weights
    assert found.weights.absent == ()
    assert (found.server is not None) == (example.server == "existing")
    assert found.port == example.port
    assert found.sample.value == example.sample


def test_what_is_written_is_valid_and_a_second_run_writes_nothing(example: Example, tmp_path: Path) -> None:
    repo = with_tiny_weights(example, example.copy(tmp_path))
    planned = keep_existing(scaffold(detect(repo)), repo)
    config = parse_config(next(file.text for file in planned.files if file.path == "mlship.yaml"))
    assert planned.todo == ()
    assert config.model.load == example.load
    assert config.python == example.python
    assert {file.path for file in check_weights(repo, config.model)} >= set(example.weights)
    write_scaffold(repo, planned.files)
    assert keep_existing(scaffold(detect(repo)), repo).files == ()


def test_a_model_that_is_not_fetched_yet_is_named_and_changes_nothing_else(example: Example, tmp_path: Path) -> None:
    bare, whole = example.copy(tmp_path / "bare"), with_tiny_weights(example, example.copy(tmp_path / "whole"))
    without, complete = (keep_existing(scaffold(detect(one)), one) for one in (bare, whole))
    assert bool(without.todo) == bool(example.fetch)
    assert all("Download what the code loads" in step for step in without.todo)
    assert without.files == complete.files
