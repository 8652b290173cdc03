"""Facts of a container and an image from `docker inspect`. Pure."""

import re

from mlship import plain
from mlship.doctor.facts.container import Container, HostConfig, Image
from mlship.doctor.facts.fact import UNKNOWN, Fact
from mlship.doctor.probes import moments
from mlship.doctor.probes.inside.nodes import masked, relevant
from mlship.redact import redact

_GPU = "gpu"


def container_of(found: object) -> Container:
    """A container, without the facts from inside it."""
    env = env_of(found)
    image = plain.text(found, "ImageManifestDescriptor", "platform", "architecture")
    system = plain.text(found, "Platform") or "linux"
    return Container(
        name=(plain.text(found, "Name") or "").lstrip("/") or UNKNOWN,
        engine="podman" if plain.at(found, "OCIRuntime") is not None else "docker",
        platform=f"{system}/{image}" if image else UNKNOWN,
        started_at=moments.moment_of(plain.text(found, "State", "StartedAt")),
        status=plain.text(found, "State", "Status") or UNKNOWN,
        error=plain.text(found, "State", "Error"),
        env=relevant(env.items()) if isinstance(env, dict) else env,
        host_config=host_config(plain.at(found, "HostConfig")),
    )


def host_config(found: object) -> HostConfig:
    requests = list(plain.items(found, "DeviceRequests"))
    devices = tuple(plain.text(one, "PathOnHost") or "" for one in plain.items(found, "Devices"))
    return HostConfig(
        runtime=plain.text(found, "Runtime"),
        gpus=tuple(name for one in requests if not _is_cdi(one) for name in _gpus(one)),
        cdi_devices=(
            *(name for one in requests if _is_cdi(one) for name in plain.texts(one, "DeviceIDs") or ()),
            *(name for name in devices if "=" in name),
        ),
        devices=tuple(name for name in devices if "=" not in name),
        binds=plain.texts(found, "Binds") or (),
        shm_size=plain.number_at(found, "ShmSize"),
        ipc_mode=plain.text(found, "IpcMode"),
        privileged=plain.flag(found, "Privileged"),
        read_only=plain.flag(found, "ReadonlyRootfs"),
        group_add=plain.texts(found, "GroupAdd") or (),
        security_opt=plain.texts(found, "SecurityOpt") or (),
    )


def _is_cdi(request: object) -> bool:
    return plain.text(request, "Driver") == "cdi"


def _gpus(request: object) -> tuple[str, ...]:
    wanted = [name for group in plain.items(request, "Capabilities") if isinstance(group, list) for name in group]
    if _GPU not in wanted and plain.text(request, "Driver") != "nvidia":
        return ()
    if names := plain.texts(request, "DeviceIDs"):
        return tuple(f"device={name}" for name in names)
    count = plain.number_at(request, "Count") or 0
    return ("all",) if count < 0 else (str(count),)


def env_of(found: object) -> Fact[dict[str, str]]:
    """Config.Env, private values masked."""
    lines = plain.texts(found, "Config", "Env")
    if plain.at(found, "Config") is None:
        return UNKNOWN
    return {key: redact(masked(key, value)) for key, _, value in (line.partition("=") for line in lines or ())}


def image_of(found: object, reference: str) -> Image:
    """An image, without its files."""
    env = env_of(found)
    labels = {key: redact(str(value)) for key, value in plain.table(found, "Config", "Labels").items()}
    return Image(
        reference=reference,
        id=plain.text(found, "Id") or UNKNOWN,
        architecture=plain.text(found, "Architecture"),
        labels=dict(sorted(labels.items())),
        env=env,
        cuda_version=_cuda_version(env if isinstance(env, dict) else {}),
        base=labels.get("org.opencontainers.image.base.name") or UNKNOWN,
        registry_status=None,
        error=None,
    )


def _cuda_version(env: dict[str, str]) -> Fact[str]:
    """The CUDA version from NVIDIA's images; unknown if CUDA comes from wheels."""
    found = re.match(r"\d+\.\d+", env.get("CUDA_VERSION", ""))
    return found[0] if found else UNKNOWN
