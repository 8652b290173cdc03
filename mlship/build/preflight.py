"""What can be refused, or warned about, before minutes of building."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlship.build.prepare import Prepared
from mlship.engine.base import Engine, EngineInfo
from mlship.errors import EngineError, MatchError, UsageError
from mlship.image.plan import BuildPlan
from mlship.registry.reference import NAME_PART
from mlship.smoke.spec import Device
from mlship.units import first_rows

# https://github.com/distribution/reference: [domain[:port]/]path[:tag], each part as strict as a registry is.
_REFERENCE = re.compile(rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{NAME_PART}(?:/{NAME_PART})*(?::[\w][\w.-]{{0,127}})?")

# Bytes on disk per byte of wheel, measured on PyPI's torch with CUDA (2.7 GB -> 4.5 GB), scipy, pandas and others.
_UNPACKED = {"cuda": 1.7, "framework": 2.5, "compiled": 4.0, "heavy": 3.5, "light": 3.5}
# Installer cache, install stage, layer and unpacked image; a compressed layer counts a third.
_COPIES = 4.3
# Build context, weights stage, layer, unpacked image, compressed layer.
_WEIGHT_COPIES = 5.0
_REST = 500_000_000  # bytes: base image, installer, code


def check_tag(text: str) -> str:
    """Return `text` if it is a valid image name.

    Raises:
        UsageError: it is not.
    """
    if len(text) <= 255 and _REFERENCE.fullmatch(text):
        return text
    raise UsageError(
        f"invalid image name in --tag: {text!r}",
        hint="use [registry[:port]/]name[:tag], such as `registry.example.com/team/model:1.2`",
    )


def check_reference(text: str) -> str:
    """Return `text` if it is an image name with a tag or a digest.

    Raises:
        UsageError: it is neither.
    """
    name, at, digest = text.partition("@")
    if (at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)) or not _REFERENCE.fullmatch(name):
        raise UsageError(
            f"invalid image name: {text!r}", hint="use [registry[:port]/]name[:tag], or name@sha256:DIGEST"
        )
    return text


def check_tags(texts: Iterable[str]) -> tuple[str, ...]:
    """The names, each one once.

    Raises:
        UsageError: one is not a valid image name.
    """
    return tuple(dict.fromkeys(map(check_tag, texts)))


def split_tag(reference: str) -> tuple[str, str]:
    """Name and tag of a valid image name: `host:5000/a` -> (`host:5000/a`, `latest`)."""
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def unproven_name(reference: str) -> str:
    """The name of an image until it is proven: `digits:1.0` -> `digits:unproven-1.0`."""
    name, tag = split_tag(reference)
    return f"{name}:{f'unproven-{tag}'[:128]}"


def check_push(*, push: bool, unproven: bool, smoke: bool) -> None:
    """Refuse to push an image that nothing proves, unless that is requested by its name.

    Raises:
        UsageError: `--push` together with `--no-smoke`.
    """
    if push and not smoke and not unproven:
        raise UsageError(
            "`--push` pushes proven images only, and `--no-smoke` skips the proof",
            hint="drop `--no-smoke`, or use `--push-unproven`: the image gets the label `dev.mlship.proof.smoke=none`",
        )


def check_metadata(path: Path, *, images: int) -> None:
    """Refuse a metadata file that cannot be written, and metadata of several images.

    Raises:
        UsageError: it is a folder, its folder is not writable, or there are several images.
    """
    if images > 1:
        raise UsageError("--metadata describes one image", hint="build each platform by itself to record it")
    if path.is_dir():
        raise UsageError(f"--metadata `{path}` is a folder", hint=f"name a file: `--metadata {path / 'build.json'}`")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--metadata `{path}`: cannot write to `{folder}`", hint="name a file in a writable folder")


def smoke_device(prepared: Prepared, requested: Device | None) -> Device:
    """The device to test on: the requested one, or else the one the image is built for.

    Raises:
        UsageError: a GPU is requested for a CPU image.
    """
    if requested == "gpu" and prepared.plan.gpu is None:
        raise UsageError(
            "--smoke gpu: this image is not built for a GPU", hint="add `gpu:` to mlship.yaml, or drop `--smoke gpu`"
        )
    return requested or ("gpu" if prepared.plan.gpu else "cpu")


def check_keeps_manifests(engine: Engine) -> None:
    """Refuse an engine whose image store keeps no manifest digests.

    Raises:
        EngineError: it uses Docker's older image store.
    """
    if not engine.info().keeps_manifests:
        raise EngineError(
            "--reproducible needs the containerd image store: this engine's store keeps no digest "
            "and writes a new manifest on each push",
            hint='set {"features": {"containerd-snapshotter": true}} in /etc/docker/daemon.json and restart the engine '
            "(Docker Desktop: Settings, General, containerd), or drop `--reproducible`",
        )


def check_testable(info: EngineInfo, platform: str) -> None:
    """Refuse to smoke-test an image that the engine cannot run natively.

    Raises:
        UsageError: the engine's platform is another one.
    """
    native = info.platform
    if native != platform:
        raise UsageError(
            f"cannot test an image for {platform} here: this engine runs {native}",
            hint=f"build on a {platform} machine, or add `--no-smoke` and run `mlship smoke` there",
        )


def disk_needed(plan: BuildPlan, sizes: Mapping[str, int]) -> int | None:
    """Estimate the bytes of disk for a build without cache; None if the wheel sizes are unknown.

    Args:
        sizes: bytes of the wheels by package name.
    """
    if plan.layers and not sizes:
        return None
    packages = sum(sizes.get(name, 0) * _UNPACKED[layer.group] for layer in plan.layers for name in layer.packages)
    weights = sum(one.size for one in plan.weights)
    return round(packages * _COPIES + weights * _WEIGHT_COPIES + _REST)


def known_to_run(each: tuple[Prepared, ...]) -> tuple[Prepared, ...]:
    """Return the images, whose locks are known to run on every host.

    Raises:
        MatchError: the lists say what is unknown.
    """
    unknown = tuple(dict.fromkeys(text for prepared in each for text in prepared.unknown))
    if unknown:
        listed = "\n".join(f"- {text}" for text in first_rows(unknown, 8))
        raise MatchError(
            f"the lock is not known to run on every host:\n{listed}",
            hint="build without `--strict` and prove the image on such a host: `mlship smoke IMAGE --on gpu`",
        )
    return each
