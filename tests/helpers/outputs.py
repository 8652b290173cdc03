"""All files that mlship writes for other tools to run, in one folder, without an engine."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import yaml

from mlship.build.ci import CiService, pipeline
from mlship.build.export import export
from mlship.build.prepare import prepare
from mlship.deploy.compose import export_compose
from mlship.deploy.options import DeployKind, DeployOptions
from mlship.files import write_atomic
from mlship.project.load import load_config, parse_config
from mlship.smoke.cluster.job import Placement, PodTest, job_of
from mlship.yaml_text import yaml_text
from tests.helpers.cluster_api import Object
from tests.helpers.deployed import GPU, app, objects_of
from tests.helpers.generated_server import initialised
from tests.helpers.locked_repos import locked
from tests.helpers.repos import onnx_bytes
from tests.helpers.smoke_events import SPEC
from tests.helpers.toy import YAML, toy

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'}
MANY = DeployOptions(namespace="ml", env_secret="api", pull_secret="regcred", env=("MAX_BATCH=16",))
_PIPELINES: dict[CiService, str] = {"github": ".github/workflows/image.yml", "gitlab": ".gitlab-ci.yml"}


def dockerfiles() -> list[Path]:
    """The Dockerfiles of the examples."""
    return sorted(GOLDEN.glob("*/Dockerfile"))


def write_outputs(folder: Path, work: Path) -> None:
    """Write Dockerfiles, an export, pipelines, a repository after init, objects of Kubernetes and a Compose file.

    Args:
        folder: new folder of what is written.
        work: empty folder for the repositories.
    """
    for path in dockerfiles():
        target = folder / "dockerfiles" / path.parent.name
        target.mkdir(parents=True)
        shutil.copyfile(path, target / "Dockerfile")
    export(prepare(locked(toy(work))), folder / "export")
    repo = initialised(work / "wine", MODEL, "shadow")
    export_compose(repo, load_config(repo, {}), folder / "compose")
    for (service, name), gpu in product(_PIPELINES.items(), (False, True)):
        path = folder / f"ci-{'gpu' if gpu else 'cpu'}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, pipeline(service, parse_config(YAML + ("gpu: {}\n" if gpu else ""))))
    shutil.copytree(repo, folder / "init")
    (folder / "kubernetes").mkdir()
    for name, objects in _objects():
        write_atomic(folder / "kubernetes" / f"{name}.yaml", "---\n".join(yaml.safe_dump(one) for one in objects))


def _objects() -> Iterator[tuple[str, list[Object]]]:
    """Every kind, for the CPU and for GPUs, with few and with many options; and the Job of the smoke test."""
    sizes = {"few": DeployOptions(), "many": MANY}
    for kind, (device, spec), (size, options) in product(
        get_args(DeployKind), {"cpu": SPEC, "gpu": GPU}.items(), sizes.items()
    ):
        objects = objects_of(app(replace(options, kind=kind), spec))
        yield f"{kind}-{device}-{size}", objects
        if kind != "deployment":  # judges do not look into the pods of custom resources
            outer = json.loads(json.dumps(objects[0]["spec"]))
            pod = outer["template"]["spec"] if kind == "knative" else outer["predictor"]
            yield f"{kind}-pod-{device}-{size}", [{**objects[0], "apiVersion": "v1", "kind": "Pod", "spec": pod}]
    yield "deployment-claim", objects_of(app(DeployOptions(claim="one-gpu"), GPU))
    test = PodTest("reg.example/toy@sha256:" + "1" * 64, ("python", "server.py"), "amd64", SPEC)
    for name, place in (("job", Placement()), ("job-placed", Placement("ml", pull_secret="regcred", env_secret="env"))):
        yield name, [yaml.safe_load(yaml_text(job_of(test, place, "mlship-smoke-1")))]
