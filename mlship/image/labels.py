"""The image's labels: the OCI ones, and mlship's own."""

from datetime import UTC, datetime

from mlship import __version__
from mlship.lock.check import Lock
from mlship.project.base import base_name
from mlship.project.config import Config
from mlship.project.git import Revision
from mlship.smoke.spec import LABEL as SMOKE

OCI = "org.opencontainers.image"
OWN = "dev.mlship"
# What an image for GPUs was proven on: "gpu", "cpu", "simulated gpu". "none": any image that was pushed unproven.
PROOF = f"{OWN}.proof.smoke"
# What is installed in an image for GPUs, so that `mlship fits IMAGE` needs its configuration only. An image that is
# built from this one inherits the list, which is complete only for as many layers as LAYERS says.
PACKAGES = f"{OWN}.packages"
LAYERS = f"{OWN}.layers"


def labels(config: Config, version: str, lock: Lock, revision: Revision, smoke: str) -> dict[str, str]:
    """Labels by name, sorted; what is not known is left out.

    https://github.com/opencontainers/image-spec/blob/main/annotations.md
    """
    made = "" if revision.epoch is None else f"{datetime.fromtimestamp(revision.epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"
    found = {
        f"{OCI}.title": config.name,
        f"{OCI}.version": version,
        f"{OCI}.revision": revision.commit,
        f"{OCI}.source": revision.source,
        f"{OCI}.created": made,
        f"{OCI}.base.name": f"docker.io/library/{base_name(config)}",
        f"{OCI}.base.digest": lock.record.digest,
        f"{OWN}.version": __version__,
        f"{OWN}.lock": lock.record.requirements,
        f"{OWN}.allow-pickle": "; ".join(f"{p.path}: {p.reason}" for p in config.model.allow_pickle),
        PACKAGES: " ".join(f"{pin.name}=={pin.version}" for pin in lock.pins) if config.gpu else "",
        SMOKE: smoke,
    }
    return {name: value for name, value in sorted(found.items()) if value}
