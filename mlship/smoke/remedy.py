"""How a process ended, its last lines, and the usual fix of a failure, from what it left behind. Pure."""

import re
import signal
from collections.abc import Iterable, Mapping

from mlship.engine.base import KILLED, ExitState
from mlship.imports import candidates_for, requirement_for
from mlship.known_texts import first_match
from mlship.process import signal_name
from mlship.project.paths import WORKDIR
from mlship.smoke.gpu_causes import missing_library, of_text
from mlship.smoke.result import fix
from mlship.smoke.seen import Observed
from mlship.smoke.spec import SmokeSpec
from mlship.system_packages import package_of_library, package_of_program
from mlship.units import size

LOG_LINES = 40
_EARLY_LINES = 5
_TESTS = re.compile(r"(?:-packages/|No module named ')([\w./-]*?)[/.]tests(?=[/.'])")
_ABSENT = re.compile(r"No such file or directory|FileNotFoundError|No module named|not found|does not exist")
_MODULE = re.compile(r"No module named '?([\w.]+)")
_FRAME = re.compile(rf'File "(?P<file>{WORKDIR}/[^"]+)", line (?P<line>\d+)')
_PLACED = {"smoke-permission", "smoke-read-only", "smoke-no-file", "smoke-variable"}  # what the user's code asks for
_SHM = 64 << 20  # bytes; the default of Docker Engine and containerd


def advise(text: str, seen: Observed, absent: Mapping[str, str] | None = None) -> str | None:
    """The fix for a failure that left `text`; None if the text is not known.

    Args:
        absent: shared libraries that the loader does not find, with the file that needs each.
    """
    return (
        _home_of_root(text, seen)
        or _pruned(text)
        or _module(text, seen)
        or _gpu(text, seen)
        or _library(text, seen, absent or {})
        or _program(text)
        or _listed(text, seen)
        or _own_code(text)
    )


def _user(seen: Observed) -> str:
    begin = seen.model.begin
    return seen.image.user.partition(":")[0] or (str(begin.uid) if begin and begin.uid else "0")


def _home_of_root(text: str, seen: Observed) -> str | None:
    """A common case: `pip install --user` as root in the builder, then another user in the runtime stage."""
    in_text = "/root/" in text
    in_env = any("/root/" in value for value in seen.image.env.values())
    missing = re.search(r"No module named|not found|[Pp]ermission denied", text)
    if _user(seen) in ("0", "root") or not missing or not (in_text or in_env):
        return None
    return fix("process", "home_of_root", user=_user(seen))


def _module(text: str, seen: Observed) -> str | None:
    match = _MODULE.search(text)
    if match is None:
        return None
    module = match[1]
    top = module.partition(".")[0]
    if top == seen.spec.loader[0].partition(".")[0]:
        return fix("process", "own_module", module=top)
    known = requirement_for(top)
    if module != top and known and requirement_for(module) == known:
        # Python names the first part that is missing, so the package itself is there. (A namespace such as google has
        # rows of its own.)
        return fix("process", "other_version", package=known, module=module)
    package = requirement_for(module) or " or ".join(candidates_for(module)) or f"the package that provides {module}"
    return fix("process", "module", package=package, module=top)


def _gpu(text: str, seen: Observed) -> str | None:
    """A missing CUDA library matters with or without a GPU; everything else only with one."""
    before = seen.model.gpu_before
    driver = before.cuda.version if before else None
    known = of_text(text, driver) if seen.device == "gpu" else missing_library(text)
    return known.remedy if known else None


def _pruned(text: str) -> str | None:
    """A file of a package that the build left out: tests, which nothing in the package names."""
    match = _TESTS.search(text) if _ABSENT.search(text) else None
    if match is None:
        return None
    return fix("process", "pruned", pattern=f"{match[1].replace('.', '/')}/tests/*")


def _library(text: str, seen: Observed, absent: Mapping[str, str]) -> str | None:
    """All missing libraries at once: the one in the message, and those that the loader does not find either."""
    match = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", text)
    if match is None or match[1].startswith("libcuda"):
        return None
    base = seen.image.labels.get("org.opencontainers.image.base.name", "")
    distro = "trixie" if "trixie" in base else "bookworm"  # package names differ
    packages = {name: package_of_library(name, distro) for name in (match[1], *absent)}
    needed = {match[1], *(name for name, file in absent.items() if file == absent.get(match[1]))}
    known = dict.fromkeys(package for package in packages.values() if package)
    unknown = [f"the Debian package that provides {name}" for name in sorted(needed) if packages[name] is None]
    return fix("process", "library", packages=" and ".join([*known, *unknown[:5]]))


def _program(text: str) -> str | None:
    match = re.search(r"No such file or directory: '([\w-]+)'", text)
    package = package_of_program(match[1]) if match else None
    if match is None or package is None:
        return None
    return fix("process", "program", package=package, program=match[1])


def _own_code(text: str) -> str | None:
    """The user's own code in a server's last traceback, which is where the failure can be fixed."""
    frames = _FRAME.findall(text)
    if not frames:
        return None
    return fix("process", "own_code", file=frames[-1][0], line=frames[-1][1])


def _listed(text: str, seen: Observed) -> str | None:
    match = first_match(text, "smoke")
    if match is None:
        return None
    values = {
        "platform": seen.image.platform,
        "user": _user(seen),
        "port": str(seen.spec.port),
        "function": seen.spec.loader[1],
        "memory": size(seen.spec.memory),
    }
    own = _FRAME.findall(text)
    place = f" ({own[-1][0]}, line {own[-1][1]})" if own and match.row.id in _PLACED else ""
    return f"{match.why(**values)}{place}: {match.hint(**values)}"


def how_ended(state: ExitState, spec: SmokeSpec) -> str:
    """Such as "died of SIGSEGV" or "ended with exit code 1"."""
    if state.out_of_memory:
        return f"killed for memory (limit {size(spec.memory)})"
    if state.code == KILLED:
        return f"killed (SIGKILL), probably for memory (limit {size(spec.memory)})"
    if 128 < state.code < 128 + signal.NSIG:
        return f"died of {signal_name(state.code - 128)}"
    return f"ended with exit code {state.code}"


def remedy_for_end(state: ExitState, spec: SmokeSpec) -> str:
    """The usual fix if a process left nothing but the way it ended."""
    shm = spec.shm or _SHM
    what = {132: "SIGILL", 134: "native", 135: "SIGBUS", KILLED: "memory", 139: "native"}.get(state.code, "unknown_end")
    return fix(
        "process",
        "memory" if state.out_of_memory else what,
        memory=size(spec.memory),
        shm=size(shm),
        more=f"{max(1, 2 * shm >> 30)}g",
    )


def last_lines(lines: Iterable[str], *, gpu: bool) -> tuple[str, ...]:
    """The last lines, after those that say why a GPU is not used: they are printed when the model loads."""
    printed = [line.rstrip() for line in lines if line.strip()]
    early = [line for line in printed[:-LOG_LINES] if gpu and of_text(line)]
    return (*early[:_EARLY_LINES], *printed[-LOG_LINES:])


def without_own_requests(lines: Iterable[str], spec: SmokeSpec) -> list[str]:
    """A server's lines without those about the test's own requests."""
    ours = tuple(f'"{ask}' for ask in (f"GET {spec.live} ", f"GET {spec.ready} ", spec.asked.shown))
    return [line for line in lines if not any(request in line for request in ours)]
