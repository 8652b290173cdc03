"""Run all probes in parallel, each with its own time limit; the result is always facts."""

import getpass
import os
import platform
import time
from concurrent.futures import wait
from dataclasses import replace
from functools import partial

from mlship import __version__
from mlship.background import in_background
from mlship.doctor.facts.fact import UNKNOWN, each, is_known, known
from mlship.doctor.facts.facts import Facts, ProbeRun, merge
from mlship.doctor.probes.base import INSIDE_SECONDS, Look, Probe, here
from mlship.doctor.probes.cdi import read_cdi
from mlship.doctor.probes.container import image_probe, read_container
from mlship.doctor.probes.containerd import read_containerd
from mlship.doctor.probes.driver import read_cuda, read_nvml
from mlship.doctor.probes.engine import read_docker, read_podman
from mlship.doctor.probes.inside_programs import read_program, read_pythons
from mlship.doctor.probes.kernel import read_kernel
from mlship.doctor.probes.kernel_log import read_kernel_log
from mlship.doctor.probes.kubernetes import read_kubernetes
from mlship.doctor.probes.module_files import read_module_files
from mlship.doctor.probes.packages import read_packages
from mlship.doctor.probes.services import read_services
from mlship.doctor.probes.system import read_system
from mlship.doctor.probes.toolkit import read_toolkit
from mlship.engine import connect_read_only
from mlship.engine.failures import engine_failure, no_docker
from mlship.engine.look import EngineLook, LookResult
from mlship.errors import UsageError

PROBES = (
    Probe("nvml", 6.5, read_nvml),
    Probe("cuda", 8, read_cuda),
    Probe("devices", 4, partial(read_program, program="nodes.py")),
    Probe("loader", 4, partial(read_program, program="loader.py")),
    Probe("kernel", 3, read_kernel),
    Probe("kernel log", 5, read_kernel_log),
    Probe("module files", 4, read_module_files),
    Probe("system", 3, read_system),
    Probe("packages", 5, read_packages, host_only=True),
    Probe("services", 6, read_services, host_only=True),
    Probe("python", 6, read_pythons),
    Probe("docker", 6, read_docker),
    Probe("podman", 4, read_podman, host_only=True),
    Probe("containerd", 4, read_containerd, host_only=True),
    Probe("toolkit", 4, read_toolkit, host_only=True),
    Probe("cdi", 4, read_cdi, host_only=True),
    Probe("kubernetes", 4, read_kubernetes),
    Probe("container", INSIDE_SECONDS, read_container, inside=True),
    image_probe(connect_read_only()),
)  # register probes here; if two know the same fact, the earlier one wins


def look(what: Look, probes: tuple[Probe, ...] = PROBES) -> Facts:
    """Run all probes. Takes as long as the slowest one, at most its limit."""
    started = time.monotonic()
    runs = [(probe, in_background(partial(_run, probe, what))) for probe in probes]
    results = []
    try:
        for probe, run in runs:
            limit = what.seconds if probe.inside else probe.seconds
            wait([run], max(0.0, started + limit - time.monotonic()))
            late = Facts(), ProbeRun(probe.name, UNKNOWN, f"no answer within {limit:g} s")
            results.append(run.result() if run.done() else late)
    finally:
        for probe in probes:
            probe.clean_up()
    done = tuple(run for _, run in results)
    return replace(merge(tuple(facts for facts, _ in results)), mlship=__version__, probes=done)


def _run(probe: Probe, what: Look) -> tuple[Facts, ProbeRun]:
    started = time.monotonic()
    facts, problem = Facts(), None
    try:
        if not (probe.host_only and here(what.root) == "container"):
            facts = probe.read(what)
    except Exception as error:  # noqa: BLE001  a failed probe is a fact with a reason
        problem = f"{type(error).__name__}: {error}"
    return facts, ProbeRun(probe.name, round(time.monotonic() - started, 3), problem)


def check_requested(engine: EngineLook, look: Look) -> None:
    """Check that the requested image or container exists.

    Raises:
        EngineError: no engine answers.
        UsageError: the engine has no such image or container.
    """
    if look.container is not None:
        _refuse(engine.container(look.container), f"container {look.container}", "list them with `docker ps --all`")
    if look.image is None:
        return
    answer = engine.image(look.image)
    # A deleted tag of one of NVIDIA's own images (on Docker Hub, a mirror or nvcr.io) is a diagnosis.
    if answer.lack == "not there" and "nvidia/" in look.image and engine.registry(look.image).lack == "not there":
        return
    _refuse(answer, f"image {look.image}", f"run `docker pull {look.image}`, then try again; mlship pulls nothing")


def open_question(what: Look, facts: Facts) -> str | None:
    """Why it is not known what the requested image or container sees; None if it is, or if the engine refused it."""
    asked = f"image {what.image}" if what.image else f"container {what.container}" if what.container else None
    box, name, refused = facts.container, "image" if what.image else "container", known(facts.container.error)
    run = next((run for run in each(facts.probes) if run.name == name), None)
    running = known(box.status) in {"running", None} and known(facts.image.registry_status) is None
    if asked is None or refused or is_known(box.device_nodes) or not running:
        return None
    why = known(run.problem) if run else None
    return f"{asked} was not examined: {why or f'nothing in it answered within {what.seconds:g} s'}"


def _refuse(answer: LookResult, what: str, hint: str) -> None:
    if answer.lack == "not there":
        raise UsageError(f"the engine has no {what}", hint=hint)
    if answer.lack == "no client":
        raise no_docker()
    if answer.lack is not None:
        raise engine_failure(answer.said)


def private_names() -> tuple[str, ...]:
    """Names of this machine and its user, to be masked."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    node = platform.node()
    names = (node, node.partition(".")[0], user, os.environ.get("SUDO_USER", ""))
    return tuple(dict.fromkeys(name for name in names if name))
