"""Starts the server, sends it the sample, and records which Python modules it imports.

    trace.py OPTIONS OUTPUT

OPTIONS is JSON: command, port, ready, request, health (Python code), seconds. A secret may hold more environment
variables, which are only for tests. OUTPUT gets
{"packages": {package: {folder: modules}}, "python": {folder: modules}}, or {"why": ...} if the server failed.

Python itself reports the imports: every process stores the bytecode of each module it compiles below
PYTHONPYCACHEPREFIX.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO

    from mlship.image.inside.install import installed, record, site_packages
    from mlship.image.inside.request import HttpRequest, build
else:  # in the build, install.py lies beside this file, and -I leaves this folder out of the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from install import installed, record, site_packages
    from request import HttpRequest, build


POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0
OUTPUT_LIMIT = 2000  # characters
USER = 1001
SECRET = Path("/run/secrets/mlship-test-env")


class ServerError(Exception):
    """Why nothing could be traced."""


def main(arguments: list[str]) -> int:
    options, output = json.loads(Path(arguments[0]).read_text()), Path(arguments[1])
    modules = Path(tempfile.mkdtemp(prefix="modules-"))
    modules.chmod(0o777)
    try:
        serve(options, modules)
        found: object = owned(imported(modules))
    except ServerError as error:
        found = {"why": str(error)}
    output.write_text(json.dumps(found, sort_keys=True))
    return 0


def serve(options: dict[str, object], modules: Path) -> None:
    """Run the server as user 1001 until it is ready, send one request, then SIGTERM."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(modules), "HOME": "/tmp"}  # noqa: S108  as in the image
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.update(for_tests())
    command = [str(word) for word in options["command"]]  # type: ignore[attr-defined]
    with tempfile.TemporaryFile() as output:
        try:
            server = subprocess.Popen(
                command,
                env=env,
                user=USER,
                group=USER,
                extra_groups=[],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            raise ServerError(f"cannot start {command[0]}: {error}") from error
        try:
            send_sample(options, server, output, modules)
            server.send_signal(signal.SIGTERM)
            server.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # its imports are recorded anyway
        finally:
            server.kill()


def send_sample(options: dict[str, object], server: subprocess.Popen[bytes], output: IO[bytes], modules: Path) -> None:
    """Wait until the server is ready, send the sample, then run the health check once."""
    port, deadline = int(str(options["port"])), time.monotonic() + float(str(options["seconds"]))
    while not 200 <= status(port, HttpRequest("GET", str(options["ready"]), (), None)) < 300:
        if server.poll() is not None:
            raise ServerError(f"the server exited with code {server.returncode}{last(output)}")
        if time.monotonic() > deadline:
            raise ServerError(f"the server was not ready after {options['seconds']} s{last(output)}")
        time.sleep(POLL_SECONDS)
    request = options["request"]
    if not isinstance(request, dict):
        raise TypeError("the request is missing")
    answer = status(port, build(request, for_tests()))
    if answer != request["status"]:
        raise ServerError(f"the server answered the sample with status {answer}{last(output)}")
    health = [sys.executable, "-X", f"pycache_prefix={modules}", "-ISc", str(options["health"])]
    subprocess.run(health, check=False, timeout=30)


def for_tests() -> dict[str, str]:
    """Environment variables for tests, such as credentials."""
    return json.loads(SECRET.read_text()) if SECRET.exists() else {}


def status(port: int, request: HttpRequest) -> int:
    """The status of the response; 0 if there is none.

    Reads the response to its end: a server that notices a dropped connection imports modules to write a traceback, and
    whether it notices depends on timing.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(request.method, request.target, request.body, dict(request.headers))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()


def last(output: IO[bytes]) -> str:
    """The end of the server's output."""
    output.seek(0)
    text = output.read()[-OUTPUT_LIMIT:].decode(errors="replace").strip()
    for value in for_tests().values():
        text = text.replace(value, "***") if len(value) >= 4 else text
    return f":\n{text}" if text else ""


def imported(modules: Path) -> set[Path]:
    """Sources of the bytecode below `modules`."""
    found = modules.rglob(f"*.{sys.implementation.cache_tag}.pyc")
    return {Path("/") / path.relative_to(modules).parent / f"{path.name.split('.')[0]}.py" for path in found}


def owned(sources: set[Path]) -> dict[str, object]:
    """Sources by package and folder; sources without a package are the project's own, which is compiled whole."""
    library = Path(sysconfig.get_path("stdlib"))
    packages: dict[str, set[Path]] = {}
    owners = {Path(path): name for name, package in installed().items() for path in record(package)}
    for path in sources & owners.keys():
        packages.setdefault(owners[path], set()).add(path)
    python = {path for path in sources if path.is_relative_to(library) and "-packages" not in str(path)}
    return {
        "packages": {name: folders(paths, site_packages()) for name, paths in packages.items()},
        "python": folders(python, library),
    }


def folders(paths: set[Path], root: Path) -> dict[str, str]:
    found = defaultdict(list)
    for path in sorted(paths):
        if path.is_relative_to(root):
            found[str(path.parent.relative_to(root))].append(path.stem)
    return {folder: " ".join(names) for folder, names in found.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
