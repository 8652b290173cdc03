"""Rules about how a container was started: its runtime on Jetson, its platform, its shared memory."""

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import node
from mlship.doctor.rules.base import computes

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "amd64": "amd64", "arm64": "arm64"}
_SHM_DEFAULT = 64 * 1024**2
_TEGRA_NODES = ("/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl", "/dev/nvidia0")


@computes("jetson-gpus-flag-without-runtime")
def _jetson_nodes(facts: Facts) -> Values:
    nodes = {path: node(facts.container, path) for path in _TEGRA_NODES}
    absent = tuple(path for path, one in nodes.items() if is_absent(one))
    return {"absent": absent[:2], "no_node": bool(absent) and not any(map(known, nodes.values()))}


@computes("wrong-arch-image")
def _other_architecture(facts: Facts) -> Values | None:
    platform, machine = known(facts.container.platform) or "", known(facts.host.os.arch)
    image = known(facts.image.architecture) or (platform.split("/")[1] if platform.count("/") else None)
    host = _MACHINES.get(machine or "")
    if image is None or host is None or _MACHINES.get(image, image) == host:
        return None
    reference = known(facts.image.reference) or ""
    return {
        "for_jetson": host != "arm64" and any(word in reference for word in ("l4t", "jetson", "jetpack")),
        "built_for": image,
        "host": host,
        "machine": machine,
        "qemu": ", ".join(name for name in each(facts.host.binfmt) if name.startswith("qemu-")),
    }


@computes("shm-exhausted")
def _shm_size(facts: Facts) -> Values:
    size = known(facts.container.shm)
    size = known(facts.container.host_config.shm_size) if size is None else size
    has = f"{size // 1024**2} MiB" if size is not None else "of unknown size"
    larger, small = "8g" if not size or size < 4 * 1024**3 else "32g", size is not None and size <= _SHM_DEFAULT
    return {"has": has, "measured": size is not None, "larger": larger, "certain": small}
