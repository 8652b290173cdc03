"""Build stand-ins for Docker Hub's python:X.Y-slim images from Debian packages, and serve them in a local registry.

Stand-ins look like the official images (/usr/local/bin/python, pip, PYTHON_VERSION, no compiler). They have the same
Debian release and Python minor version, but Debian's patch release and build options, and another digest.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import _debian
from _machine import (
    RUN_AGAIN,
    Background,
    Problem,
    State,
    code_for,
    last_lines,
    port_answers,
    run,
    save_state,
    say,
    state_dir,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = "library/python"
FIRST_PORT = 5787
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# The date of every file, so that the same packages always give the same digest.
_EPOCH = "1735689600"
_CREATED = "2025-01-01T00:00:00Z"
_OCI = "application/vnd.oci.image"
_FIX = f"fix the cause, then {RUN_AGAIN}"

# Runs after Debian is installed. $1 is the image's root, $2 is X.Y, and X.Y.Z is written to $3. Files go where an
# official image has them; files that only Debian has are removed. `env -i` keeps this machine's pip settings out. The
# image's /tmp stays: mmdebstrap keeps its apt configuration there, and would clean this machine's lists without it.
_HOOK = r"""set -eu
root=$1 python=python$2
for name in python python3 "$python"; do
    ln -s "../../bin/$python" "$root/usr/local/bin/$name"
done
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
inside() { chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 sh -euc "$@"; }
inside 'python -c "import platform; print(platform.python_version())"' > "$3"
inside 'cd /usr/share/python-wheels
    PYTHONPATH=$(echo "$PWD"/pip-*.whl) python -m pip --isolated -q install --no-index --no-deps --no-compile \
        --no-cache-dir --root-user-action=ignore ./pip-*.whl'
find "$root/usr" -name __pycache__ -prune -exec rm -rf {} +
cd "$root"
rm -rf etc/hostname etc/resolv.conf root/.cache var/cache/ldconfig/aux-cache var/cache/debconf/*-old \
    var/lib/dpkg/*-old var/log/*.log var/log/apt
"""

# Runs with the python on the image's PATH, as mlship's images do.
_CHECK = r"""set -eu
python -c 'import asyncio, bz2, ctypes, decimal, hashlib, lzma, multiprocessing, sqlite3, ssl, sys, uuid, zlib, zoneinfo
assert "%d.%d" % sys.version_info[:2] == sys.argv[1], sys.version
assert ssl.create_default_context().get_ca_certs(), "no certificates"' "$1"
pip --version && python -m pip --version
python -m venv --without-pip /opt/venv && /opt/venv/bin/python -c 'import ssl, sys; assert sys.prefix == "/opt/venv"'
for tool in gcc git curl; do ! command -v $tool || exit 1; done
"""


@dataclasses.dataclass(frozen=True)
class StandIn:
    suite: str
    python: str

    @property
    def tag(self) -> str:
        return f"{self.python}-slim-{self.suite}"


STAND_INS = (StandIn("bookworm", "3.11"), StandIn("trixie", "3.13"))
_PACKAGES = ("usr-is-merged", "ca-certificates", "netbase", "tzdata")
# The folders that Debian's own slim images leave out. Licences stay.
_NO_DOCUMENTATION = tuple(
    f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "groff", "lintian")
)
_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    # Without this hook, apt installs usrmerge, which needs perl.
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    *(f"--aptopt={option}" for option in ('Acquire::Languages "none"', "Acquire::Retries 3")),
    *(
        f"--dpkgopt={option}"
        for option in ("force-unsafe-io", *_NO_DOCUMENTATION, "path-include=/usr/share/doc/*/copyright")
    ),
)
# A changed recipe builds the stand-ins again.
RECIPE = hashlib.sha256(repr((STAND_INS, _PACKAGES, _OPTIONS, _HOOK, _PATH, _EPOCH)).encode()).hexdigest()[:16]


def ensure(state: State) -> State:
    """Start the registry and put both stand-ins in it, checked. Stand-ins of the same recipe are kept."""
    if not shutil.which("docker-registry") or not shutil.which("mmdebstrap"):
        _debian.install(_debian.STANDIN_PACKAGES, trixie=False)
        state = dataclasses.replace(state, installed=tuple(sorted({*state.installed, *_debian.STANDIN_PACKAGES})))
    state = start_registry(state)
    port = state.port or FIRST_PORT
    if state.recipe != RECIPE or not all(digest(port, image) for image in STAND_INS):
        save_state(dataclasses.replace(state, base="", recipe=""))
        _make_all(port)
    return save_state(dataclasses.replace(state, base="stand-ins", recipe=RECIPE))


def registry() -> Background:
    config = state_dir() / "registry.json"
    return Background("docker-registry", ("docker-registry", "serve", str(config)), config)


def start_registry(state: State) -> State:
    service = registry()
    if service.is_alive(state.registry) and state.port and port_answers(state.port):
        return state
    port = _free_port(state.port or FIRST_PORT)
    # The registry reads YAML. JSON is YAML whose quoting is always right.
    config = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(state_dir() / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    service.config.write_text(json.dumps(config, indent=2) + "\n")
    child = service.start()
    state = save_state(dataclasses.replace(state, registry=child.pid, port=port))
    service.wait_until(lambda: port_answers(port), child, limit=15)
    say(f"local registry on 127.0.0.1:{port} (pid {child.pid})")
    return state


def digest(port: int, image: StandIn) -> str:
    """The stand-in's digest in the registry; empty if it is not there or the registry does not answer."""
    try:
        return _ask(port, "HEAD", f"manifests/{image.tag}").headers.get("Docker-Content-Digest", "")
    except Problem:
        return ""


def _make_all(port: int) -> None:
    names = ", ".join(image.tag for image in STAND_INS)
    say(f"building stand-ins from Debian packages, in parallel (about a minute): {names}")
    state_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=state_dir()) as folder:
        work = Path(folder)
        (work / "hook").write_text(_HOOK)
        _bootstrap(work)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda image: _publish(port, image, work), STAND_INS))


def _bootstrap(work: Path) -> None:
    """Run mmdebstrap in parallel, since each waits half the time: 60 s for both, 39 s for one (2 cores)."""
    makers = {image: _start_bootstrap(image, work) for image in STAND_INS}
    try:
        while any(maker.poll() is None for maker in makers.values()) and not any(
            maker.poll() for maker in makers.values()
        ):
            time.sleep(0.1)
        for image, maker in makers.items():
            if maker.poll():
                log = (work / f"{image.suite}.log").read_text(errors="replace")
                raise Problem(f"`mmdebstrap` cannot build {image.tag}", last_lines(log), _FIX, code_for(log))
    finally:
        # After SIGTERM, mmdebstrap unmounts and removes its tree; wait for that before removing the work folder.
        for maker in makers.values():
            maker.terminate()
            maker.wait()


def _start_bootstrap(image: StandIn, work: Path) -> subprocess.Popen[bytes]:
    machine = _debian.mirror()
    python = f"python{image.python}"
    hook = f'sh "{work}/hook" "$1" {image.python} "{work}/{image.suite}.version"'
    packages = ",".join([*_PACKAGES, python, f"{python}-venv"])
    argv = [
        "mmdebstrap",
        *_OPTIONS,
        f"--include={packages}",
        f"--keyring={machine.keyring}",
        f"--customize-hook={hook}",
    ]
    argv += [image.suite, str(work / f"{image.suite}.tar"), *_suite_lines(image.suite, machine)]
    with (work / f"{image.suite}.log").open("wb") as log:
        env = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)


def _suite_lines(suite: str, machine: _debian.Mirror) -> Iterator[str]:
    yield f"deb {machine.main} {suite} main"
    if machine.security:
        yield f"deb {machine.security} {suite}-security main"


def _publish(port: int, image: StandIn, work: Path) -> None:
    _push(port, image, work)
    _check(port, image)


def _push(port: int, image: StandIn, work: Path) -> None:
    """Push an image index with one platform, as a tag on Docker Hub has."""
    version = (work / f"{image.suite}.version").read_text().strip()
    architecture = run(["dpkg", "--print-architecture"]).out.strip()
    layer, raw_digest = _compress(work / f"{image.suite}.tar", work / f"{image.suite}.tar.gz")
    config = _put_blob(port, "config.v1+json", _as_json(_config(version, architecture, raw_digest)))
    layers = [_put_blob(port, "layer.v1.tar+gzip", layer)]
    manifest = _put_manifest(port, "manifest.v1+json", {"config": config, "layers": layers})
    platform = {"architecture": architecture, "os": "linux"}
    _put_manifest(port, "index.v1+json", {"manifests": [{**manifest, "platform": platform}]}, image.tag)
    say(f"stand-in {REPOSITORY}:{image.tag}: Python {version}, {layer.stat().st_size / 1e6:.0f} MB compressed")


def _config(version: str, architecture: str, raw_digest: str) -> dict[str, object]:
    notice = "mlship stand-in made from Debian packages; not a Docker Official Image"
    runtime = {
        "Env": [f"PATH={_PATH}", "LANG=C.UTF-8", f"PYTHON_VERSION={version}"],
        "Cmd": ["python3"],
        "Labels": {"org.mlship.stand-in": notice},
    }
    history = [{"created": _CREATED, "created_by": "scripts/engine up", "comment": notice}]
    rootfs = {"type": "layers", "diff_ids": [raw_digest]}
    return {
        "created": _CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": runtime,
        "rootfs": rootfs,
        "history": history,
    }


def _compress(tar: Path, target: Path) -> tuple[Path, str]:
    """Gzip without a name or time in the header. Also return the digest of the tar, which the image's config names."""
    digest_of_tar = hashlib.sha256()
    compressor = zlib.compressobj(level=1, wbits=31)
    with tar.open("rb") as source, target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            digest_of_tar.update(chunk)
            sink.write(compressor.compress(chunk))
        sink.write(compressor.flush())
    tar.unlink()
    return target, f"sha256:{digest_of_tar.hexdigest()}"


def _put_blob(port: int, kind: str, content: Path | bytes) -> dict[str, object]:
    data = content.read_bytes() if isinstance(content, Path) else content
    name = f"sha256:{hashlib.sha256(data).hexdigest()}"
    where = _ask(port, "POST", "blobs/uploads/").headers["Location"]
    _ask(port, "PUT", f"{where}&digest={name}", data, "application/octet-stream")
    return {"mediaType": f"{_OCI}.{kind}", "digest": name, "size": len(data)}


def _put_manifest(port: int, kind: str, content: dict[str, object], tag: str = "") -> dict[str, object]:
    data = _as_json({"schemaVersion": 2, "mediaType": f"{_OCI}.{kind}", **content})
    name = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _ask(port, "PUT", f"manifests/{tag or name}", data, f"{_OCI}.{kind}")
    return {"mediaType": f"{_OCI}.{kind}", "digest": name, "size": len(data)}


def _as_json(content: dict[str, object]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _ask(port: int, method: str, what: str, data: bytes | None = None, kind: str = "") -> http.client.HTTPResponse:
    """Send one request to the local registry. http.client, unlike urllib, never uses a proxy."""
    headers = {"Accept": f"{_OCI}.index.v1+json", **({"Content-Type": kind} if kind else {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        url = what if what.startswith("http") else f"/v2/{REPOSITORY}/{what}"
        connection.request(method, url, data, headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        why = f"{method} {what}: {error!r}"
        raise Problem("the local registry does not answer", why, _read_log()) from None
    finally:
        connection.close()
    if answer.status >= 300:
        why = f"{method} {what}: {answer.status} {body[:300]}"
        raise Problem("the local registry refused a request", why, _read_log(), code_for(body))
    return answer


def _read_log() -> str:
    return f"read {registry().log}, then {RUN_AGAIN}"


def _check(port: int, image: StandIn) -> None:
    """Check the stand-in once per recipe; a broken one would cause confusing failures later."""
    say(f"checking {image.tag} in a container")
    name = f"127.0.0.1:{port}/{REPOSITORY}:{image.tag}"
    inside = ["sh", "-c", _CHECK, "check", image.python]
    done = run(["docker", "run", "--rm", "--pull=always", "--network=none", name, *inside], limit=180)
    if not done.ok:
        output = last_lines(done.out + done.err)
        raise Problem(f"the stand-in `{name}` failed its check", output, _FIX, code_for(done.err))


def _free_port(first: int) -> int:
    for port in range(first, first + 20):
        with socket.socket() as probe:
            # The registry binds the same way: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    why = f"ports {first} to {first + 19} on 127.0.0.1 are all in use"
    raise Problem("no free port for the local registry", why, f"free one of them, then {RUN_AGAIN}")
