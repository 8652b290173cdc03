"""From the repository to the plan: mlship.yaml, weights, lock, CUDA match. Needs no engine and no network."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mlship.errors import LockError
from mlship.image.decide import make_plan
from mlship.image.dockerfile import copied_paths, dockerfile, dockerignore
from mlship.image.plan import BuildPlan
from mlship.lock.check import Lock, check_lock
from mlship.lock.groups import brings_cuda
from mlship.project.base import for_platform
from mlship.project.config import Config
from mlship.project.credentials import check_credentials, check_values
from mlship.project.git import Revision, read_revision
from mlship.project.load import load_config
from mlship.project.paths import check_paths, link_targets, private_files
from mlship.project.text_links import refuse_text_links, text_links
from mlship.project.weights import WeightFile, check_weights
from mlship.smoke.spec import SmokeSpec
from mlship.units import few
from mlship.weights.locked import check_fetched

# Imported inside functions: only projects that use GPUs, or whose lock brings CUDA, wait for the CUDA match.
if TYPE_CHECKING:
    from mlship.cuda.hosts.profile import Fleet
    from mlship.image.gpu import Matched

FindFleet: TypeAlias = Callable[[Config], "Fleet | None"]


@dataclass(frozen=True)
class Prepared:
    """Everything known before the engine is used.

    Attributes:
        revision: git's description of the code, for the image's labels.
        linked: targets of symbolic links among the copied paths; the build context needs them too.
        warnings: worth knowing before the build; they do not stop it.
        fleet: the hosts that CUDA is matched to; None for a CPU image.
        unknown: what is not known to run on every one of them.
    """

    repo: Path
    config: Config
    lock: Lock
    plan: BuildPlan
    revision: Revision
    linked: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    fleet: "Fleet | None" = None
    unknown: tuple[str, ...] = ()

    @cached_property
    def dockerfile(self) -> str:
        """The Dockerfile's text, rendered on first use."""
        return dockerfile(self.plan)

    @cached_property
    def dockerignore(self) -> str:
        """The text of the .dockerignore that belongs to the Dockerfile."""
        return dockerignore(self.plan, self.linked)


def prepare(
    repo: Path,
    target: str | None = None,
    find_fleet: FindFleet = lambda _config: None,
    revision: Revision | None = None,
    fetch: Callable[[Path, Config], object] = check_fetched,
) -> Prepared:
    """Check the repository and plan the image. Reads files only, and the local GPUs if no host is named.

    Args:
        target: platform that overrides `platform` in mlship.yaml, with a lock of its own.
        find_fleet: returns the hosts that CUDA is matched to, for a project that uses GPUs.
        revision: git's description of the code; read from git if None.
        fetch: gets the files of `model.sources`; the default only checks that they are here.

    Raises:
        UsageError, LockError: see mlship.project and mlship.lock.
        CheckFailed: the model was trained with other libraries, or is another file than the record describes.
        MatchError: the requested or locked packages do not run on the hosts.
    """
    written = load_config(repo)
    config = for_platform(written, target)
    fetch(repo, config)
    check_paths(repo, config)
    refuse_text_links(text_links(repo, (*config.source, *config.model.weights, *config.test_files)), repo)
    weights = check_weights(repo, config.model)
    fleet = find_fleet(config)
    try:
        lock, matched = _checked_lock(repo, config, fleet)
    except LockError as error:
        # The command that fixes the lock depends on the options of this one.
        platform = f" --platform {target}" if target and config is not written else ""
        raise error.for_options(f"{platform}{fleet.options if fleet else ''}") from error
    smoke = SmokeSpec.from_config(config, matched.plan.architectures if matched else ()).to_json()
    revision = revision or read_revision(repo)
    plan = make_plan(config, lock, weights, revision, smoke, gpu=matched.plan if matched else None)
    check_credentials(repo, copied_paths(plan), config.allow_credentials)
    check_values("mlship.yaml", json.dumps((plan.labels, plan.env, plan.command)))
    if matched:
        plan = replace(plan, reasons=(*plan.reasons, *matched.reasons))
    trained = _as_trained(repo, config, weights, lock)
    warnings = (*_left_out(repo, config), *trained, *(matched.warnings if matched else _unwanted_cuda(config, lock)))
    linked, unknown = link_targets(repo, copied_paths(plan)), matched.unknown if matched else ()
    return Prepared(repo, config, lock, plan, revision, linked, warnings, fleet, unknown)


def find_hosts(repo: Path, config: Config, driver: str | None, capabilities: Collection[str] | None) -> "Fleet | None":
    """The hosts to match CUDA to: the named one, the repository's, or this machine; None for a CPU project.

    Raises:
        UsageError: a host file is invalid.
        MatchError: no host is given, and this machine has no GPU.
    """
    if config.gpu is None:
        return None
    from mlship.cuda.hosts.nvml import fleet_of
    from mlship.cuda.hosts.profile import named_fleet

    if driver is not None:
        return named_fleet(driver, tuple(capabilities or ()), config.platform)
    return fleet_of(repo, config.gpu.hosts)


def _checked_lock(repo: Path, config: Config, fleet: "Fleet | None") -> tuple[Lock, "Matched | None"]:
    if fleet is None:
        return check_lock(repo, config, None), None
    from mlship.image.gpu import chosen_cuda, match_hosts

    lock = check_lock(repo, config, chosen_cuda(repo, config, fleet))
    return lock, match_hosts(config, lock, fleet)


def _as_trained(repo: Path, config: Config, weights: tuple[WeightFile, ...], lock: Lock) -> tuple[str, ...]:
    """Refuse files and libraries that differ from the record of the training. Returns warnings."""
    record = config.model.metadata
    if record is None:
        return ()
    from mlship.lock.skew import check_skew
    from mlship.project.training import check_files, read_training

    training = read_training(repo / record, record, key="model.metadata")
    return (*check_files(repo, record, training, weights), *check_skew(config, lock, training))


def _left_out(repo: Path, config: Config) -> tuple[str, ...]:
    found = private_files(repo, config.source)
    if not found:
        return ()
    text = f"not in the image, because the names say that they hold credentials: {few(found, 50)}"
    return (f"{text}\nif one is meant, add its own path to `source` in mlship.yaml",)


def _unwanted_cuda(config: Config, lock: Lock) -> tuple[str, ...]:
    if not brings_cuda(lock.pins):
        return ()
    from mlship.image.gpu import unwanted_cuda

    return unwanted_cuda(config, lock)
