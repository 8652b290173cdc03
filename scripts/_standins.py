"""Stand-ins for Docker Hub's python:X.Y-slim images, made from Debian's packages, and the registry that serves them.

They look like the official images (/usr/local/bin/python, pip, PYTHON_VERSION, no compiler), and are not: same Debian
release and Python minor version, but Debian's patch release, Debian's build options and another digest.
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
from _machine import Background, Problem, State, code_for, last_lines, run, save_state, say, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = "library/python"
FIRST_PORT = 5787
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# One date for every file, so that the same packages give the same digest whenever they are made.
_EPOCH = "1735689600"
_CREATED = "2025-01-01T00:00:00Z"
_OCI = "application/vnd.oci.image"
_AGAIN = "scripts/engine up"

# Runs once Debian is installed: $1 the image's root, $2 X.Y, $3 where to write X.Y.Z. What an official image has is put
# where it has it; what only Debian has goes. `env -i`: this machine's pip settings are none of the image's. The image's
# /tmp stays: mmdebstrap keeps its own apt configuration there, and would clean this machine's lists without it.
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

# Run by the image's own user-visible python, as mlship's images will.
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
# The same folders that Debian's own slim images leave out; licences stay.
_NO_DOCUMENTATION = tuple(
    f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "groff", "lintian")
)
_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    # Without it usrmerge comes in, and with it all of perl.
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    *(f"--aptopt={option}" for option in ('Acquire::Languages "none"', "Acquire::Retries 3")),
    *(
        f"--dpkgopt={option}"
        for option in ("force-unsafe-io", *_NO_DOCUMENTATION, "path-include=/usr/share/doc/*/copyright")
    ),
)
# A changed recipe makes the stand-ins anew.
RECIPE = hashlib.sha256(repr((STAND_INS, _PACKAGES, _OPTIONS, _HOOK, _PATH, _EPOCH)).encode()).hexdigest()[:16]


def ensure(state: State) -> State:
    """The registry up and both stand-ins in it, checked; what is there already is kept."""
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
    if service.is_alive(state.registry) and state.port and _answers(state.port):
        return state
    port = _free_port(state.port or FIRST_PORT)
    # JSON is YAML, which is what the registry reads, and it needs no care about quoting.
    config = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(state_dir() / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    service.config.write_text(json.dumps(config, indent=2) + "\n")
    child = service.start()
    state = save_state(dataclasses.replace(state, registry=child.pid, port=port))
    service.wait_until(lambda: _answers(port), child, limit=15)
    say(f"local registry on 127.0.0.1:{port} (pid {child.pid})")
    return state


def digest(port: int, image: StandIn) -> str:
    """The digest the registry gives for the stand-in; empty where it has none or does not answer."""
    try:
        return _ask(port, "HEAD", f"manifests/{image.tag}").headers.get("Docker-Content-Digest", "")
    except Problem:
        return ""


def _make_all(port: int) -> None:
    say(
        "making stand-ins from Debian packages, both at once (about a minute): "
        + ", ".join(image.tag for image in STAND_INS)
    )
    state_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=state_dir()) as folder:
        work = Path(folder)
        (work / "hook").write_text(_HOOK)
        _bootstrap(work)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda image: _publish(port, image, work), STAND_INS))


def _bootstrap(work: Path) -> None:
    """Side by side, since each spends half its time waiting: 60 s for both where one takes 39 s (2 cores)."""
    makers = {image: _start_bootstrap(image, work) for image in STAND_INS}
    try:
        while any(maker.poll() is None for maker in makers.values()) and not any(
            maker.poll() for maker in makers.values()
        ):
            time.sleep(0.1)
        for image, maker in makers.items():
            if maker.poll():
                words = (work / f"{image.suite}.log").read_text(errors="replace")
                raise Problem(
                    f"mmdebstrap could not make {image.tag}",
                    last_lines(words),
                    f"mend that, then: {_AGAIN}",
                    code_for(words),
                )
    finally:
        # mmdebstrap unmounts and removes its own tree when asked to end; wait for that before the work folder goes.
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
    """As an image index with one platform, the shape a Docker Hub tag has."""
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
    """Gzip without name or time in its header; also the digest of what went in, which the image's config names."""
    plain = hashlib.sha256()
    squeeze = zlib.compressobj(level=1, wbits=31)
    with tar.open("rb") as source, target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            plain.update(chunk)
            sink.write(squeeze.compress(chunk))
        sink.write(squeeze.flush())
    tar.unlink()
    return target, f"sha256:{plain.hexdigest()}"


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
    """One request to the local registry. http.client, unlike urllib, never takes the way through a proxy."""
    headers = {"Accept": f"{_OCI}.index.v1+json", **({"Content-Type": kind} if kind else {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        url = what if what.startswith("http") else f"/v2/{REPOSITORY}/{what}"
        connection.request(method, url, data, headers)
        answer = connection.getresponse()
        words = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        why = f"{method} {what}: {error!r}"
        raise Problem("the local registry does not answer", why, f"see {registry().log}, then: {_AGAIN}") from None
    finally:
        connection.close()
    if answer.status >= 300:
        why = f"{method} {what}: {answer.status} {words[:300]}"
        raise Problem(
            "the local registry refused a request", why, f"see {registry().log}, then: {_AGAIN}", code_for(words)
        )
    return answer


def _check(port: int, image: StandIn) -> None:
    """Once per recipe: a stand-in that cannot do what an official image does would fail later, and puzzlingly."""
    say(f"checking {image.tag} in a container")
    name = f"127.0.0.1:{port}/{REPOSITORY}:{image.tag}"
    inside = ["sh", "-c", _CHECK, "check", image.python]
    done = run(["docker", "run", "--rm", "--pull=always", "--network=none", name, *inside], limit=180)
    if not done.ok:
        words = last_lines(done.out + done.err)
        raise Problem(f"the stand-in {name} failed its check", words, f"mend that, then: {_AGAIN}", code_for(done.err))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port(first: int) -> int:
    for port in range(first, first + 20):
        with socket.socket() as probe:
            # As the registry itself binds: a port that waits out its last connections after a restart is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    why = f"{first} to {first + 19} on 127.0.0.1 are all taken"
    raise Problem("no free port for the local registry", why, f"free one of them, then: {_AGAIN}")
