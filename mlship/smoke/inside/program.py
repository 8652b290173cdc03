"""Runs inside the tested image through `python -c`; standard library only.

Two parts: `model` loads, warms and calls the model; `client` calls the server of another container in the same network.
Further arguments are the texts of modules: for the model of a GPU project `mlship.driver.device_code`, then
`mlship.smoke.inside.gpu` and `mlship.driver.ask` if a GPU is requested; for the client `mlship.smoke.inside.client` and
what it uses. Both parts print JSON lines on stdout, each an event of `mlship.smoke.events`, as soon as it is known, so
that the reader knows where a hang or a kill happened. They judge nothing: that is left to `mlship.smoke.judge`.

Valid for Python 3.8, since images built without mlship are tested too.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
import types
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WARM_RUNS = 20
STEADY_RUNS = 200
STEADY_SECONDS = 2.0
DEEPEST = 32
TEXT_LIMIT = 300
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
LOADER_SECONDS = 10.0


class Events:
    """JSON lines on the real stdout. What the tested code prints goes to stderr, so it cannot forge or break them."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._origin = time.monotonic()

    def send(self, event: str, **fields: object) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    def now(self) -> float:
        """Seconds since this program started."""
        return time.monotonic() - self._origin

    def stage(self, name: str, action: Callable[[], T]) -> T:
        """Run one stage of the model's part and report its end; an exception ends the program."""
        started = time.perf_counter()
        try:
            result = action()
        except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt in user code are failures too
            self.send("failed", stage=name, **failure(error))
            leave(1)
        self.send("done", stage=name, seconds=time.perf_counter() - started)
        return result

    def measure(self, run: Callable[[], float | None], runs: int) -> bool:
        """Report the latency of many runs, or as many as fit in two seconds; False if one returns None instead."""
        until = time.perf_counter() + STEADY_SECONDS
        found: list[float] = []
        while not found or (len(found) < runs and time.perf_counter() < until):
            seconds = run()
            if seconds is None:
                return False
            found.append(seconds)
        ordered, count = sorted(found), len(found)
        self.send("latency", p50=ordered[count // 2], p99=ordered[min(count - 1, count * 99 // 100)], runs=count)
        return True


def leave(code: int) -> NoReturn:
    """End at once: threads left behind by user code must not keep the container running."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def failure(error: BaseException) -> dict[str, object]:
    """An exception, with the last calls of its traceback in user code or in packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_python(frame.filename)]
    own = [frame for frame in frames if _is_users(frame.filename)][-1:]
    shown = frames[-5:] if not own or own[0] in frames[-5:] else [*own, *frames[-4:]]
    lines = [
        text
        for frame in shown
        for text in (f"File {frame.filename}, line {frame.lineno}, in {frame.name}", f"    {frame.line}")
    ]
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "missing": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "file": str(error.filename) if isinstance(error, OSError) and error.filename else None,
        "lines": [line[:TEXT_LIMIT] for line in lines],
        "at": f"{own[0].filename}, line {own[0].lineno}" if own else None,
        "absent": absent_libraries(error) if "cannot open shared object file" in _text(error) else {},
    }


def _is_users(path: str) -> bool:
    """Whether a file is no package's; compiled code names its source relative to a folder that is not here."""
    return "-packages" not in path and not path.endswith((".pyx", ".pxd", ".pxi"))


def absent_libraries(error: BaseException) -> dict[str, str]:
    """Shared libraries that the loader does not find for extension modules: the failed one's, then those of others.

    Each with the file that needs it; the loader itself names only the first one. Libraries that packages bring are left
    out, since they load these themselves.
    """
    loader = next((path for path in map(Path, LOADERS) if path.exists()), None)
    site = next((path for path in map(Path, sys.path) if path.name.endswith("-packages") and path.is_dir()), None)
    if loader is None or site is None:
        return {}
    brought = {path.name for path in site.rglob("*.so*")}
    failed = getattr(error, "path", None)
    modules = sorted(path for suffix in EXTENSION_SUFFIXES[:2] for path in site.rglob(f"*{suffix}"))
    files = [Path(failed), *modules] if failed else modules
    absent: dict[str, str] = {}
    until = time.monotonic() + LOADER_SECONDS
    for file in files:
        if time.monotonic() > until:
            break
        command, env = [str(loader), str(file)], {"LD_TRACE_LOADED_OBJECTS": "1"}  # as ldd; --list ends at the first
        listed = subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout
        for line in listed.splitlines():
            name = line.split()[0] if line.endswith("=> not found") else ""
            if name and name not in brought:
                absent.setdefault(name, file.name)
    return absent


def _is_python(file: str) -> bool:
    """Whether a file is one of Python's own modules, or this program."""
    return file.startswith("<") or (file.startswith(str(Path(os.__file__).parent)) and "-packages" not in file)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:  # noqa: BLE001  a broken __str__ must not hide the failure itself
        return "(its message cannot be printed)"


# The model's part


def try_model(events: Events, options: dict[str, object]) -> None:
    """Import, load, warm up, measure. faulthandler ends a hang and prints where it is, even if the GIL is held."""
    limit = float(str(options["load_seconds"]))
    faulthandler.dump_traceback_later(limit, exit=True)
    sys.path.insert(0, str(Path.cwd()))
    events.send("begin", uid=os.getuid(), python=sys.version.split()[0])
    device_code, gpu, driver = further_modules()
    if gpu:
        events.send("gpu_before", **gpu.before(driver))
    module_name, _, function = str(options["load"]).partition(":")
    module = events.stage("import", lambda: importlib.import_module(module_name))
    before = memory("smaps_rollup", "Private_Dirty:")
    predictor = events.stage("load", lambda: callable_of(getattr(module, function)()))
    after = memory("smaps_rollup", "Private_Dirty:")
    run = events.stage("warm", lambda: warm_up(predictor, str(options["sample"]), events))
    if gpu:
        events.send("gpu_after", **gpu.after(driver, options["silent"]))
    faulthandler.dump_traceback_later(limit, exit=True)
    events.stage("answer", lambda: events.send("output", value=plain(run()), golden=read_golden(options["golden"])))
    events.stage("measure", lambda: events.measure(lambda: timed(run), STEADY_RUNS))
    events.send("modules", **modules())
    if device_code:
        events.send("device_code", **device_code.installed_code())
    with suppress(Exception):  # of a numba of another kind, which must not hide what is known
        compiled = jit_compiled()
        if compiled:
            events.send("jit", **compiled)
    events.send(
        "memory", peak=memory("status", "VmHWM:"), before=before, after=after, weights=size_of(options["weights"])
    )


def further_modules() -> list[types.ModuleType | None]:
    """The three modules whose texts can be further arguments; None for each that is not given."""
    found: list[types.ModuleType | None] = []
    for text in sys.argv[3:]:
        module = types.ModuleType(f"mlship_{len(found)}")
        sys.modules[module.__name__] = module  # where dataclasses look for it
        exec(text, vars(module))  # noqa: S102  `python -c` takes one program, and these are parts of it
        found.append(module)
    return [*found, None, None, None][:3]


def callable_of(model: object) -> Callable[[object], object]:
    """The predictor itself, or its .predict method."""
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(f"it returned {type(model).__name__}, which is neither callable nor has a .predict")
    return predict


def warm_up(predict: Callable[[object], object], sample: str, events: Events) -> Callable[[], object]:
    """Call the model until the last three latencies lie within 20 %; returns a function that calls it once more."""
    content = Path(sample).read_bytes()
    read = json.loads if sample.endswith(".json") else bytes
    read(content)

    def run() -> object:
        return predict(read(content))  # parsed each time: a model may change its input

    latencies: list[float] = []
    while len(latencies) < WARM_RUNS and not steady(latencies):
        latencies.append(timed(run))
    events.send("warm", first=latencies[0], runs=len(latencies))
    return run


def steady(latencies: list[float]) -> bool:
    last = latencies[-3:]
    return len(last) == 3 and max(last) <= 1.2 * min(last)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def plain(value: object, depth: int = 0) -> object:
    """The output as JSON values: arrays and tensors become nested lists, without importing numpy or torch."""
    for kind in (bool, int, float, str):  # enums and numpy's scalars may be subclasses of them
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if depth > DEEPEST:
        raise TypeError(f"the answer is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    for step in ("detach", "cpu"):
        value = getattr(value, step, lambda same=value: same)()
    if not hasattr(value, "tolist"):
        raise TypeError(
            f"the answer holds an object of type {type(value).__name__}; "
            "numbers, text, lists, dicts, arrays and tensors can be checked"
        )
    return plain(value.tolist(), depth + 1)


def read_golden(path: object) -> object:
    """The recorded answer in a list of one; an empty list if the image has no such file."""
    if path is None or not Path(str(path)).is_file():
        return []
    return [json.loads(Path(str(path)).read_text(encoding="utf-8"))]


def modules() -> dict[str, object]:
    """Imported modules of packages without bytecode, which every start compiles; bytes that the build left out."""
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    found = [spec for spec in specs if spec and spec.has_location and "-packages" in str(spec.origin)]
    notes = [json.loads(path.read_text()) for path in Path(sys.prefix, "share/mlship").glob("*.json")]
    left_out = sum(kind["bytes"] for note in notes for kind in note["pruned"].values())
    missing = (spec.name for spec in found if spec.cached and not Path(spec.cached).exists())
    return {"uncompiled": sorted(missing), "left_out": left_out}


def jit_compiled() -> dict[str, object]:
    """Functions that numba compiled in this process; empty without any. The outermost time includes inner functions."""
    kind = getattr(sys.modules.get("numba.core.dispatcher"), "Dispatcher", None)
    if kind is None:
        return {}
    names: list[str] = []
    seconds = 0.0
    cached = 0
    for one in [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]:
        for signature in one.stats.cache_misses:
            passes = ((one.get_metadata(signature) or {}).get("pipeline_times") or {}).values()
            seconds = max(seconds, sum(sum(times) for part in passes for times in part.values()))
            names.append(f"{one.py_func.__module__}.{one.py_func.__name__}")
            cached += one.stats.cache_path is not None
    return {"functions": sorted(set(names)), "seconds": seconds, "cacheable": cached} if names else {}


def memory(file: str, key: str) -> int | None:
    """A line of a file in /proc/self, in bytes; None if it cannot be read."""
    try:
        lines = Path("/proc/self", file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def size_of(paths: object) -> int:
    """Bytes of files and folders."""
    named = map(Path, paths if isinstance(paths, list) else [])
    found = (file for path in named for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in found if file.is_file())


def ask_server(events: Events, options: dict[str, object]) -> None:
    client, request, images = further_modules()
    if client is None:
        raise TypeError("the client's modules are missing")
    client.ask_server(events, options, request, images)


def main(part: str, options: dict[str, object]) -> None:
    {"model": try_model, "client": ask_server}[part](Events(), options)
    leave(0)


if __name__ == "__main__":
    # Line by line, so that the output of user code survives a kill.
    getattr(sys.stdout, "reconfigure", lambda **_: None)(line_buffering=True)
    main(sys.argv[1], json.loads(sys.argv[2]))
