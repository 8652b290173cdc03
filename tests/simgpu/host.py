"""A simulated GPU host: its libraries for a child process on this machine, and for containers by way of CDI."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.simgpu.build import built_libraries
from tests.simgpu.scenario import LIBRARIES, Scenario

KIND = "nvidia.com/gpu"
CDI_FOLDER = Path("/etc/cdi")
CDI_FOLDERS = (CDI_FOLDER, Path("/var/run/cdi"))
SCENARIO_PATH = "/etc/mlship-simgpu"
LIBRARY_FOLDER = f"/usr/lib/{platform.machine()}-linux-gnu"
_OURS = "mlship-simgpu-"
_LOCK = Path(tempfile.gettempdir(), "mlship-simgpu-cdi.lock")


@dataclass(frozen=True)
class SimHost:
    """A scenario that a folder holds everything of; `SimHost.make` puts it there."""

    scenario: Scenario
    folder: Path

    @classmethod
    def make(cls, scenario: Scenario, folder: Path) -> "SimHost":
        """Put libraries and scenario into the folder; the test skips where no libraries can be built."""
        host = cls(scenario, folder)
        host.libraries.mkdir(parents=True)
        host.state.mkdir()
        for name in LIBRARIES:
            # As the driver's packages have it: the file is named for the driver, the soname links to it.
            shutil.copy(built_libraries() / name, host.libraries / f"{name}.{scenario.driver}")
            (host.libraries / f"{name}.1").symlink_to(f"{name}.{scenario.driver}")
        host.scenario_file().write_text(scenario.text(), encoding="utf-8")
        for index in range(len(scenario.devices)):
            host.scenario_file(index).write_text(scenario.only(index).text(), encoding="utf-8")
        return host

    @property
    def libraries(self) -> Path:
        return self.folder / "lib"

    @property
    def state(self) -> Path:
        """Where processes tell each other how much GPU memory they hold."""
        return self.folder / "state"

    def scenario_file(self, index: int | None = None) -> Path:
        """The whole host, or what is seen of it where only one GPU is given."""
        return self.folder / ("scenario" if index is None else f"scenario-{index}")

    def env(self) -> dict[str, str]:
        """What a child process needs in its environment to be on this host."""
        return {
            "LD_LIBRARY_PATH": str(self.libraries),
            "MLSHIP_SIMGPU": str(self.scenario_file()),
            "MLSHIP_SIMGPU_STATE": str(self.state),
        }

    def cdi_spec(self) -> str:
        """A CDI specification as JSON, with the devices all, 0, 1, ... and each GPU's UUID."""
        devices = [_device("all", self.scenario_file())]
        for index, gpu in enumerate(self.scenario.devices):
            devices += [_device(name, self.scenario_file(index)) for name in (str(index), gpu.uuid)]
        names = [f"{name}.{suffix}" for name in LIBRARIES for suffix in ("1", self.scenario.driver)]
        mounts = [_mount(self.libraries / name, f"{LIBRARY_FOLDER}/{name}") for name in names]
        # The real specification says "void" too: it keeps NVIDIA's runtime from injecting a second time.
        edits = {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "mounts": mounts}
        return json.dumps({"cdiVersion": "0.5.0", "kind": KIND, "devices": devices, "containerEdits": edits}, indent=2)

    @contextmanager
    def in_containers(self) -> Iterator[Path]:
        """Meanwhile `docker run --device nvidia.com/gpu=all` gives a container this host's GPUs.

        One test process at a time: the engine takes one vendor's devices from all files together.

        Yields:
            the CDI specification's file.
        """
        if os.geteuid() != 0:
            unavailable(f"only root can write a CDI specification to {CDI_FOLDER}", "simgpu")
        _need_cdi()
        with _LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _remove_leftovers()
            _refuse_real_ones()
            made = not CDI_FOLDER.exists()
            CDI_FOLDER.mkdir(exist_ok=True)
            spec = CDI_FOLDER / f"{_OURS}{uuid4().hex}.json"
            try:
                _write_whole(spec, self.cdi_spec())
                yield spec
            finally:
                spec.unlink(missing_ok=True)
                if made:
                    CDI_FOLDER.rmdir()


def _device(name: str, scenario: Path) -> dict[str, object]:
    return {"name": name, "containerEdits": {"mounts": [_mount(scenario, SCENARIO_PATH)]}}


def _mount(source: Path, target: str) -> dict[str, object]:
    options = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
    return {"hostPath": str(source.resolve()), "containerPath": target, "options": options}


def _write_whole(path: Path, text: str) -> None:
    """The engine watches the folder and must not read half a file; it does not read hidden or .tmp files."""
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.rename(path)


def _remove_leftovers() -> None:
    """Remove the files of a killed test process: the holder of the lock knows that no process uses them."""
    for path in CDI_FOLDER.glob(f"{_OURS}*"):
        path.unlink()


def _need_cdi() -> None:
    argv = ["docker", "info", "--format", "{{json .CDISpecDirs}}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=limit(60))
    if str(CDI_FOLDERS[0]) not in done.stdout:
        unavailable(f"the engine reads no CDI specifications from {CDI_FOLDERS[0]}", "simgpu")


def _refuse_real_ones() -> None:
    for folder in CDI_FOLDERS:
        for path in [*folder.glob("*.json"), *folder.glob("*.yaml")]:
            if KIND in path.read_text(encoding="utf-8", errors="replace"):
                unavailable(f"{path} describes real GPUs on this machine", "simgpu")
