"""What a POSIX shell can find out in a container without Python: less, and no calls of the libraries themselves."""

import re
from functools import cache
from itertools import starmap

from mlship.doctor.facts.fact import UNKNOWN, Fact
from mlship.doctor.facts.place import (
    CudaApi,
    DeviceNode,
    Libc,
    Library,
    Loader,
    Mount,
    Nvml,
    OperatingSystem,
    Place,
    User,
)
from mlship.doctor.probes.driver import driver_version_of
from mlship.doctor.probes.inside import INSIDE
from mlship.doctor.probes.inside.loader import distribution
from mlship.doctor.probes.inside.nodes import mounts_in, relevant
from mlship.doctor.probes.tables import probe_tables

_MARK = "@@"
# The start of a line of `ls -ln`: mode, links, owner, group, major and minor number.
_NODE = re.compile(r"c([-\w]{9})\S* +\d+ +(\d+) +(\d+) +(\d+), *(\d+) ")
_LOOKED_FOR = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_ERRORS = {"Permission denied": "EACCES", "Operation not permitted": "EPERM", "No such device or address": "ENXIO"}


def shell_argv() -> tuple[str, ...]:
    """The shell, and the script."""
    return ("sh", "-c", _script())


@cache
def _script() -> str:
    return (INSIDE / "look.sh").read_text(encoding="utf-8")


def finished(text: str) -> bool:
    """The script ran to its end."""
    return text.rstrip().endswith(f"{_MARK}end")


def read_sections(text: str) -> Place:
    """What the script printed. Pure."""
    sections = _sections(text)
    targets = {line.split()[4] for line in sections["mounts"] if len(line.split()) > 4}
    libraries = tuple(_library(path, targets) for path in dict.fromkeys(sections["libraries"]))
    nvml, cuda = _traced(sections, "libnvidia-ml.so.1", targets), _traced(sections, "libcuda.so.1", targets)
    return Place(
        os=OperatingSystem(**distribution("\n".join(sections["os"])), arch=next(iter(sections["arch"]), UNKNOWN)),
        libc=_libc(sections["loaders"]),
        nvml=Nvml(init=12 if nvml is None else _smi(sections["smi"]), library=nvml),
        cuda=CudaApi(library=cuda),
        loader=Loader(libraries=libraries, stubs=tuple(sorted(_folders(libraries, "/stubs")))),
        device_nodes=_nodes(sections["nodes"], sections["open"]),
        env=relevant(line.partition("=")[::2] for line in sections["env"]),
        user=_user(sections["id"]),
        mounts=tuple(starmap(Mount, mounts_in(sections["mounts"]))),
    )


def _sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in re.findall(rf"^echo {_MARK}(\w+)$", _script(), re.MULTILINE)}
    lines = found["end"]
    for line in text.splitlines():
        if line.startswith(_MARK) and line[2:] in found:
            lines = found[line[2:]]
        elif line.strip():
            lines.append(line.strip())
    return found


def _libc(paths: list[str]) -> Libc:
    musl = next((path for path in paths if "/ld-musl-" in path), None)
    glibc = next((path for path in paths if "/ld-linux" in path), None)
    if any(path.endswith("libc.so.6") for path in paths):
        return Libc("glibc", UNKNOWN, glibc, musl)
    return Libc("musl" if musl else UNKNOWN, UNKNOWN, glibc, musl)


def _user(lines: list[str]) -> User:
    if len(lines) < 3 or not all(part.isdigit() for line in lines for part in line.split()):
        return User()
    return User(int(lines[0]), int(lines[1]), tuple(sorted(int(part) for part in lines[2].split())))


def _library(path: str, targets: set[str]) -> Library:
    return Library(path, driver_version_of(path) or UNKNOWN, path in targets)


def _folders(libraries: tuple[Library, ...], ending: str) -> set[str]:
    folders = {library.path.rpartition("/")[0] for library in libraries}
    return {folder for folder in folders if folder.endswith(ending)}


def _traced(sections: dict[str, list[str]], name: str, targets: set[str]) -> Fact[Library]:
    """The file that the loader takes; unknown with a static shell or musl's loader."""
    for line in sections["trace"]:
        if f"'{name}'" in line and "cannot be preloaded" in line:
            return None
        found = re.match(rf"{re.escape(name)} => (/\S+)|(/\S*/{re.escape(name)}) ", line)
        if found:
            return _library(_real(sections["trace"], found[1] or found[2]), targets)
    return UNKNOWN


def _real(lines: list[str], path: str) -> str:
    """The file itself, links followed."""
    words = next((line.split() for line in lines if line.startswith(f"real {path} ")), [])
    return words[2] if len(words) > 2 else path


def _smi(lines: list[str]) -> Fact[int]:
    text, known_lines = "\n".join(lines), probe_tables().nvidia_smi.items()
    return next((code for pattern, code in known_lines if re.search(pattern, text, re.MULTILINE)), UNKNOWN)


def _nodes(listed: list[str], opened: list[str]) -> Fact[dict[str, Fact[DeviceNode]]]:
    """Nodes by path; null if missing. Unknown if ls did not even list /dev/null."""
    found: dict[str, Fact[DeviceNode]] = dict.fromkeys(_LOOKED_FOR)
    for line in listed:
        path = line.split()[-1]
        if row := _NODE.match(line):
            mode, *numbers = row.groups()
            uid, gid, major, minor = map(int, numbers)
            found[path] = DeviceNode(major, minor, _mode(mode), uid, gid, open=_opened(path, opened))
        elif line.startswith("c"):
            found[path] = DeviceNode()
    return found if found.pop("/dev/null", None) else UNKNOWN


def _mode(letters: str) -> str:
    bits = "".join("0" if letter == "-" else "1" for letter in letters)
    return f"0{int(bits, 2):03o}"


def _opened(path: str, lines: list[str]) -> Fact[str]:
    if f"ok {path}" in lines:
        return "ok"
    said = next((line for line in lines if f"{path}:" in line), "")
    return next((name for words, name in _ERRORS.items() if words.lower() in said.lower()), UNKNOWN)
