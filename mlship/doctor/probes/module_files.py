"""The driver's module files for the running kernel, and their metadata."""

import os
import re
from pathlib import Path

from mlship.doctor.facts.fact import UNKNOWN, Fact, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Kernel, ModuleFile
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.files import below, live, names_in
from mlship.doctor.probes.inside.loader import section
from mlship.doctor.probes.kernel import release
from mlship.driver.child import run_child

NAMES = ("nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm", "nvidia_peermem", "nouveau")
# Debian names files after the driver series: nvidia-current.ko, nvidia-tesla-535-uvm.ko, nvidia-legacy-390xx.ko.
_SERIES = re.compile(r"^nvidia-(?:current(?:-open)?|open|tesla(?:-\d+)?|legacy-\w+)(?=-|$)")
_FOLDERS = ("/lib/modules", "/usr/lib/modules")
_SIGNED = b"~Module signature appended~\n"


def read_module_files(look: Look) -> Facts:
    """From /lib/modules/$(uname -r). A container has none, which proves nothing."""
    kernel = known(release(look.root))
    folder = next((path for name in _FOLDERS if names_in(path := below(look.root, name))), None)
    if kernel is None or folder is None:
        return Facts()
    found = find_modules(folder / kernel)
    files: dict[str, Fact[ModuleFile]] = {
        name: _file(look.root, found[name]) if name in found else None for name in NAMES
    }
    return Facts(kernel=Kernel(module_files=files))


def find_modules(folder: Path) -> dict[str, Path]:
    """Module files by module name; of several, the one that modprobe prefers."""
    found: dict[str, Path] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            module = module_of(name)
            if module in NAMES and (module not in found or _rank(Path(place), folder) < _rank(found[module], folder)):
                found[module] = Path(place, name)
    return found


def module_of(name: str) -> str | None:
    """Module name for a file name. Pure."""
    stem, ko, rest = name.partition(".ko")
    if not ko or rest not in {"", ".xz", ".zst", ".gz"}:
        return None
    return _SERIES.sub("nvidia", stem).replace("-", "_")


def _rank(path: Path, folder: Path) -> int:
    """The default order of depmod: updates, extra, weak-updates, then the kernel's own."""
    first = path.relative_to(folder).parts[:1]
    order = ("updates", "extra", "weak-updates", "misc")
    return order.index(first[0]) if first and first[0] in order else len(order)


def _file(root: Path, path: Path) -> ModuleFile:
    """From modinfo; without it, from the uncompressed file, which does not name the signer."""
    shown = str(path) if live(root) else f"/{path.relative_to(root)}"
    ended = run_child(("modinfo", str(path)), 1.0) if live(root) else None
    if ended and ended.ok:
        content = parse_modinfo(ended.stdout)
        signer: Fact[str] = content.get("signer")
    else:
        info = section(str(path), ".modinfo")
        if info is None:
            return ModuleFile(shown)
        pairs = [entry.decode("utf-8", "replace").partition("=") for entry in info.split(b"\0") if entry]
        content = {key: value for key, _, value in reversed(pairs)}
        signer = UNKNOWN if _is_signed(path) else None
    return ModuleFile(shown, content.get("version") or UNKNOWN, content.get("license") or UNKNOWN, signer)


def _is_signed(path: Path) -> bool:
    """Whether a signature is appended; yes if the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_SIGNED), os.SEEK_END)
            return file.read() == _SIGNED
    except OSError:
        return True


def parse_modinfo(text: str) -> dict[str, str]:
    """The first value of each key. Pure."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            found.setdefault(key.strip(), value.strip())
    return found
