"""A container is looked for with docker, then with the clients that have its verbs."""

import json
import os
from pathlib import Path

import pytest

from mlship.doctor.facts.fact import UNKNOWN
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.container import read_container
from mlship.engine import connect_to_container
from mlship.engine.look import EngineLook

FOUND = {"Name": "app", "State": {"Status": "exited", "Error": "quux"}, "Config": {"Env": []}, "HostConfig": {}}


def put(folder: Path, name: str, *, has: bool, within: str = "") -> None:
    """A client that has the container, or not; with `within`, only in this namespace."""
    found = (
        f"case \"$*\" in '{within}'*container\\ inspect*app) echo '{json.dumps(FOUND)}'; exit 0;; esac\n" if has else ""
    )
    program = folder / name
    program.write_text(f"#!/bin/sh\n{found}echo 'Error: No such container: app' >&2\nexit 1\n")
    program.chmod(0o755)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("client", ["docker", "podman", "nerdctl"])
def test_each_client_finds_the_container_and_is_named(clients: Path, client: str) -> None:
    put(clients, "docker", has=client == "docker")
    put(clients, client, has=True)
    assert connect_to_container("app").container("app").client == client
    box = read_container(Look(container="app")).container
    assert (box.engine, box.name, box.status, box.error) == (client, "app", "exited", "quux")
    assert box.injection in {UNKNOWN, "none"}


def test_a_pods_container_is_in_kubernetes_namespace(clients: Path) -> None:
    put(clients, "nerdctl", has=True, within="--namespace k8s.io")
    assert connect_to_container("app") == EngineLook(("nerdctl", "--namespace", "k8s.io"))


@pytest.mark.parametrize("present", [["docker"], ["podman"], ["podman", "nerdctl"]])
def test_the_first_client_says_that_no_one_has_it(clients: Path, present: list[str]) -> None:
    for name in present:
        put(clients, name, has=False)
    answer = connect_to_container("app").container("app")
    assert (answer.lack, answer.said) == ("not there", "Error: No such container: app")
    assert connect_to_container("app") == EngineLook((present[0],))


def test_without_any_client_docker_is_missing(clients: Path) -> None:
    assert os.listdir(clients) == ["sh"]  # noqa: PTH208  nothing else on PATH
    answer = connect_to_container("app").container("app")
    assert (answer.lack, answer.said) == ("no client", "`docker` is not on PATH")
