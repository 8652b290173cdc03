"""Rules about how a container was started: its runtime on Jetson, its platform, its shared memory."""

from mlship.doctor.container import runtime, works
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import line_of, node
from mlship.doctor.rules.base import Rule

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "amd64": "amd64", "arm64": "arm64"}
_SHM_SAID = r"(?i)out of shared memory|insufficient shared memory|bus error.*worker|/dev/shm/nccl|shared memory.*limit"
_SHM_DEFAULT = 64 * 1024**2
_TEGRA_NODES = ("/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl", "/dev/nvidia0")


class JetsonRuntime(Rule, id="jetson-gpus-flag-without-runtime"):
    def look(self, facts: Facts) -> Finding | None:
        box, tegra, used = facts.container, known(facts.host.tegra), runtime(facts)
        if tegra is None or used in {None, "nvidia"} or works(facts) or each(box.host_config.cdi_devices):
            return None
        absent = [path for path in _TEGRA_NODES if is_absent(node(box, path))]
        lacks = is_absent(box.cuda.library) or (absent and not any(known(node(box, path)) for path in _TEGRA_NODES))
        if not lacks or known(box.injection) in {"csv", "cdi"}:
            return None
        return self.found(
            facts,
            {"used": used},
            where="container",
            evidence=(
                Evidence("host.tegra.release", known(tegra.release) or "unknown"),
                Evidence("container.host_config.runtime", used or ""),
                Evidence("container.cuda.library", "libcuda.so.1 is not found")
                if is_absent(box.cuda.library)
                else None,
                *(Evidence("container.device_nodes", f"{path}: missing") for path in absent[:2]),
            ),
        )


class WrongArchitecture(Rule, id="wrong-arch-image"):
    def look(self, facts: Facts) -> Finding | None:
        platform = known(facts.container.platform) or ""
        image = known(facts.image.architecture) or (platform.split("/")[1] if platform.count("/") else None)
        machine = known(facts.host.os.arch)
        host = _MACHINES.get(machine or "")
        if image is None or host is None or _MACHINES.get(image, image) == host or works(facts):
            return None
        qemu = [name for name in each(facts.host.binfmt) if name.startswith("qemu-")]
        reference = known(facts.image.reference) or ""
        return self.found(
            facts,
            {
                "for_jetson": host != "arm64" and any(word in reference for word in ("l4t", "jetson", "jetpack")),
                "built_for": image,
                "host": host,
                "machine": machine,
            },
            where="container",
            evidence=(
                Evidence("image.architecture", image),
                Evidence("host.os.arch", machine or ""),
                Evidence("host.binfmt", ", ".join(qemu)) if qemu else None,
                line_of(facts, "does not match the detected host platform|exec format error"),
            ),
        )


class SmallShm(Rule, id="shm-exhausted"):
    def look(self, facts: Facts) -> Finding | None:
        line, box = line_of(facts, _SHM_SAID), facts.container
        size = known(box.shm)
        size = known(box.host_config.shm_size) if size is None else size
        if line is None or known(box.host_config.ipc_mode) == "host":
            return None
        sure = size is not None and size <= _SHM_DEFAULT
        larger = "8g" if not size or size < 4 * 1024**3 else "32g"
        has = f"{size // 1024**2} MiB" if size is not None else "of unknown size"
        return self.found(
            facts,
            {"has": has, "larger": larger},
            where="container",
            certain=sure,
            evidence=(line, Evidence("container.shm", has) if size is not None else None),
        )
