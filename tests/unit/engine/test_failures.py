"""Every pattern with a text that it must know.

Captured and shortened: Engine 26.1.5, uv 0.13.9, pip 23.2, apt, docker SDK 7.2. Written from documentation, as they
need engines that are not at hand: uv's UnknownIssuer, the socket without permission, credential helpers, x509 from a
registry, and the client that does not know rawjson.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.engine.failures import (
    FailedBuild,
    build_failure,
    engine_failure,
    registry_failure,
    registry_of,
)
from mlship.engine.rawjson import Progress
from mlship.errors import BuildError, EngineError, MlshipError, TransientError, UsageError

RECORDED = Path(__file__).parents[2] / "fixtures" / "buildx"
STEP = "[builder 3/5] RUN uv pip install"
EXIT_1 = 'process "/bin/sh -c uv pip install" did not complete successfully: exit code: 1'

UV_HASH = """\
error: Failed to download `packaging==26.3`
  cause: Hash mismatch for `packaging==26.3`

         Expected:
           sha256:0000000000000000000000000000000000000000000000000000000000000000

         Computed:
           sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c"""
PIP_HASH = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, \
please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    packaging==26.3 from file:///opt/pypi/files/packaging-26.3-py3-none-any.whl#sha256=d719 (from -r bad.txt (line 1)):
        Expected sha256 0000000000000000000000000000000000000000000000000000000000000000
             Got        d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c"""
UV_UNHASHED = (
    "error: In `--require-hashes` mode, all requirements must have a hash, but none were provided for: packaging==26.3"
)
UV_NO_WHEEL = """\
error: No solution found when resolving dependencies
  cause: Because onlymac==1.0 has no wheels with a matching platform tag (e.g., `manylinux_2_36_x86_64`) and you \
require onlymac==1.0, we can conclude that your requirements are unsatisfiable."""
UV_NO_SOURCE = """\
  cause: Because iniconfig==2.3.1 has no source distribution and you require iniconfig==2.3.1, we can conclude that \
your requirements are unsatisfiable."""
UV_NO_PACKAGE = (
    "  cause: Because nosuchpackage was not found in the package registry and you require nosuchpackage==1, "
    "we can conclude that your requirements are unsatisfiable."
)
UV_NO_VERSION = (
    "  cause: Because there is no version of packaging==99.9 and you require packaging==99.9, "
    "we can conclude that your requirements are unsatisfiable."
)
UV_401 = f"""\
{UV_NO_PACKAGE}

hint: An index URL (http://127.0.0.1:39873/401/) could not be queried due to a lack of valid authentication \
credentials (401 Unauthorized)"""
UV_403 = f"""\
{UV_NO_PACKAGE}

hint: An index (http://127.0.0.1:39873/403/) returned a 403 Forbidden error. Check that the index URL is correct and \
the credentials are valid."""
UV_429 = "  cause: HTTP status client error (429 Too Many Requests) for url (http://127.0.0.1:39873/429/packaging/)"
UV_503 = "  cause: HTTP status server error (503 Service Unavailable) for url (http://127.0.0.1:39873/503/packaging/)"
UV_DNS = """\
error: Request failed after 3 retries in 11.6s
  cause: Failed to fetch: https://no-such-index.invalid/simple/packaging/
  cause: dns error
  cause: failed to lookup address information: Name or service not known"""
UV_REFUSED = "  cause: tcp connect error\n  cause: Connection refused (os error 111)"
UV_TLS = "  cause: client error (Connect)\n  cause: invalid peer certificate: UnknownIssuer"
UV_FULL = "  cause: failed to copy file from /tmp/a to /opt/b: No space left on device (os error 28)"
UV_NO_GCC = """\
         gcc -Wsign-compare -DNDEBUG -g -fwrapv -O3 -Wall -fPIC -c cext.c -o build/temp.linux-x86_64-cpython-311/cext.o

         [stderr]
         error: [Errno 2] No such file or directory: 'gcc'

hint: Build failures usually indicate a problem with the package or the build environment"""
PIP_NO_GCC = "      error: command 'gcc' failed: No such file or directory"
PIP_NONE = """\
ERROR: Could not find a version that satisfies the requirement onlymac==1.0 (from versions: none)
ERROR: No matching distribution found for onlymac==1.0"""
PIP_TLS = f"""\
Could not fetch URL https://127.0.0.1:39872/200/packaging/: There was a problem confirming the ssl certificate: \
(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))) \
- skipping
{PIP_NONE}"""
APT_NONE = "E: Unable to locate package nosuchpackagehere"
HEADER = "src/x.c:3:10: fatal error: openssl/ssl.h: No such file or directory"


@pytest.mark.parametrize(
    ("printed", "kind", "why", "hint"),
    [
        pytest.param(UV_HASH, BuildError, "`packaging` 26.3", "--upgrade-package packaging", id="uv-hash"),
        pytest.param(PIP_HASH, BuildError, "`packaging` 26.3", "--upgrade-package packaging", id="pip-hash"),
        pytest.param(UV_UNHASHED, BuildError, "no hash for `packaging`", "mlship lock", id="uv-unhashed"),
        pytest.param(UV_NO_WHEEL, BuildError, "`onlymac` 1.0 has no wheel", "requirements.in", id="uv-no-wheel"),
        pytest.param(UV_NO_SOURCE, BuildError, "version 2.3.1 has only wheels", "gpu.compile", id="uv-no-source"),
        pytest.param(UV_NO_PACKAGE, BuildError, "nosuchpackage", "pip config list", id="uv-no-package"),
        pytest.param(UV_NO_VERSION, BuildError, "packaging", "mlship lock", id="uv-no-version"),
        pytest.param(UV_401, BuildError, "rejected the credentials", "~/.netrc", id="uv-401"),
        pytest.param(UV_403, BuildError, "rejected the credentials", "~/.netrc", id="uv-403"),
        pytest.param(UV_429, TransientError, "overloaded", "try again", id="uv-429"),
        pytest.param(UV_503, TransientError, "overloaded or failing", "try again", id="uv-503"),
        pytest.param(UV_DNS, TransientError, "host name", "try again", id="uv-dns"),
        pytest.param(UV_REFUSED, TransientError, "does not respond", "try again", id="uv-refused"),
        pytest.param(UV_TLS, BuildError, "certificate", "pip config set global.cert", id="uv-tls"),
        pytest.param(UV_FULL, TransientError, "disk is full", "docker buildx prune", id="uv-full"),
        pytest.param(UV_NO_GCC, BuildError, "no `gcc`", "system: {build: [gcc", id="uv-no-gcc"),
        pytest.param(PIP_NO_GCC, BuildError, "no `gcc`", "system: {build: [gcc", id="pip-no-gcc"),
        pytest.param(PIP_NONE, BuildError, "onlymac", "mlship lock", id="pip-none"),
        pytest.param(PIP_TLS, BuildError, "certificate", "pip config set global.cert", id="pip-tls"),
        pytest.param(APT_NONE, BuildError, "nosuchpackagehere", "system.build", id="apt-none"),
        pytest.param(HEADER, BuildError, "openssl/ssl.h", "apt-file search openssl/ssl.h", id="header"),
        pytest.param("something new", BuildError, "exit code 1", "mlship build -v", id="unknown"),
    ],
)
def test_what_an_installing_step_printed(printed: str, kind: type[MlshipError], why: str, hint: str) -> None:
    error = build_failure(FailedBuild(STEP, tuple(printed.splitlines()), EXIT_1))
    assert type(error) is kind
    assert why in error.message.splitlines()[0]
    assert hint in error.hint
    assert f"step: {STEP}" in error.message
    assert f"| {printed.splitlines()[-1]}" in error.message


def test_what_compiling_lacks_is_named() -> None:
    said = """\
error: Failed to build `mlshipkernel==1.0`
  cause: Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "<string>", line 8, in <module>
         ModuleNotFoundError: No module named 'setuptools'"""
    compiling = EXIT_1.replace("install", "install --no-build-isolation --no-binary mlshipkernel")
    error = build_failure(FailedBuild(STEP, tuple(said.splitlines()), compiling))
    assert "needs the module `setuptools`" in error.message.splitlines()[0]
    assert "add the package that provides `setuptools` to requirements.in" in error.hint
    elsewhere = build_failure(FailedBuild(STEP, tuple(said.splitlines()), EXIT_1))
    assert "needs the module" not in elsewhere.message  # its own build environment lacks it: the lock cannot help


def test_a_builder_that_does_not_answer_is_no_busy_disk() -> None:
    error = build_failure(FailedBuild("[internal] waiting for connection", (), "context deadline exceeded"))
    assert "the buildx builder does not answer" in error.message


def test_what_a_check_of_our_own_printed_is_the_cause_with_its_remedy() -> None:
    lines = ("note: b.so is not looked at", "mlship: a.so needs {x}", "mlship: c.so does too", "hint: add {y}")
    error = build_failure(FailedBuild(STEP, lines, EXIT_1))
    assert type(error) is BuildError
    assert error.message.splitlines()[0] == "the image build failed: a.so needs {x}"
    assert error.hint == "add {y}"
    without = build_failure(FailedBuild(STEP, ("mlship: the base image has Python 3.9 on glibc",), EXIT_1))
    assert without.message.splitlines()[0] == "the image build failed: the base image has Python 3.9 on glibc"
    assert "mlship build -v" in without.hint


@pytest.mark.parametrize(
    ("name", "kind", "why", "hint"),
    [
        ("failing", BuildError, "exit code 3", "mlship build -v"),
        ("killed", BuildError, "memory", "memory"),
        ("nospace", TransientError, "disk is full", "docker buildx prune"),
        ("nosource", BuildError, "`nothere.py` does not exist", "`source`"),
        ("refused", TransientError, "does not respond", "base.mirror"),
        ("unknownhost", TransientError, "could not be resolved", "base.mirror"),
        ("hub-unreachable", TransientError, "could not be resolved", "base.mirror"),
        ("registry-missing", BuildError, "no such image", "base.mirror"),
        ("registry-digest", BuildError, "no longer has the locked digest", "mlship lock"),
        ("registry-busy", TransientError, "overloaded", "try again"),
        ("registry-broken", TransientError, "overloaded or failing", "try again"),
        ("registry-forbidden", BuildError, "denied access", "docker login"),
        ("syntax", MlshipError, "cannot parse", "report"),
    ],
)
def test_recorded_builds(name: str, kind: type[MlshipError], why: str, hint: str) -> None:
    error = build_failure(recorded(name))
    assert type(error) is kind
    assert why in error.message.splitlines()[0]
    assert hint in error.hint


def recorded(name: str) -> FailedBuild:
    progress = Progress()
    for line in (RECORDED / f"{name}.jsonl").read_text().splitlines():
        progress.feed(line)
    step = progress.failed
    if step is None:
        return FailedBuild("", (), "\n".join(progress.text))
    return FailedBuild(step.name, progress.last_lines(step.id), step.error or "")


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        (
            "ERROR: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
            EngineError,
            "cannot connect",
        ),
        (
            "ERROR: permission denied while trying to connect to the Docker daemon socket at unix:///x",
            EngineError,
            "no permission",
        ),
        ('ERROR: no builder "far" found', UsageError, "far"),
        (
            'ERROR: error getting credentials - err: exec: "docker-credential-desktop": executable file not found',
            EngineError,
            "docker-credential-desktop",
        ),
        ("invalid progress mode rawjson", EngineError, "too old"),
        ("ERROR: failed to solve: x509: certificate signed by unknown authority", BuildError, "certificate"),
        ("", BuildError, "no reason"),
    ],
)
def test_builds_that_reached_no_step(text: str, kind: type[MlshipError], why: str) -> None:
    error = build_failure(FailedBuild("", (), text))
    assert type(error) is kind
    assert why in error.message
    assert "step:" not in error.message


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("manifest unknown", UsageError, "no such image"),
        ("toomanyrequests: You have reached your pull rate limit.", TransientError, "overloaded"),
        ("received unexpected HTTP status: 503 Service Unavailable", TransientError, "overloaded or failing"),
        ("unauthorized", UsageError, "denied access"),
        ("denied", UsageError, "denied access"),
        ('Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused', TransientError, "respond"),
        (
            'Get "https://a.invalid/v2/": dial tcp: lookup a.invalid on 10.0.0.53:53: no such host',
            TransientError,
            "resolved",
        ),
        (
            "invalid reference format: repository name (library/Bad Name) must be lowercase",
            UsageError,
            "invalid image name",
        ),
        ("tag does not exist: reg.example/a:1", UsageError, "no such image"),
        ("something new", TransientError, "something new"),
    ],
)
def test_registries(text: str, kind: type[MlshipError], why: str) -> None:
    error = registry_failure("reg.example/a:1", text)
    assert type(error) is kind
    assert why in error.message
    assert "reg.example" in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("[Errno 2] No such file or directory: '/x.sock'", EngineError, "cannot connect to a Docker Engine"),
        ("[Errno 13] Permission denied: '/var/run/docker.sock'", EngineError, "no permission"),
        (
            "Error while fetching server API version: ('Connection aborted.', ConnectionRefusedError(111, 'refused'))",
            EngineError,
            "cannot connect to a Docker Engine",
        ),
        (
            "UnixHTTPConnectionPool(host='localhost', port=None): Read timed out. (read timeout=60)",
            TransientError,
            "time",
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", TransientError, "disk is full"),
        (
            "rpc error: code = Unknown desc = write /a/tmp/mlship-run-build-8thyt/image.tar: no space left on device",
            TransientError,
            "no space in `/a/tmp` for the image",
        ),
        ("something new", EngineError, "something new"),
    ],
)
def test_engine(text: str, kind: type[MlshipError], why: str) -> None:
    error = engine_failure(text)
    assert type(error) is kind
    assert why in error.message


def test_start() -> None:
    missing = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        'runc create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH'
    )
    error = engine_failure(missing, "toy:1")
    assert "nosuch: executable file not found in $PATH" in error.message
    assert isinstance(engine_failure("No such image: toy:1", "toy:1"), UsageError)
    assert "the Docker Engine refused" in engine_failure("something else", "toy:1").message


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("python:3.11", "Docker Hub"),
        ("library/python:3.11", "Docker Hub"),
        ("localhost/x", "localhost"),
        ("127.0.0.1:5000/library/python:3.11", "127.0.0.1:5000"),
        ("reg.example/a", "reg.example"),
    ],
)
def test_registry_of(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


@given(st.text(), st.lists(st.text()), st.text())
def test_any_text_gets_an_error_with_a_remedy(step: str, output: list[str], error: str) -> None:
    found = build_failure(FailedBuild(step, tuple(output), error))
    assert found.message
    assert found.hint
    assert engine_failure(error).hint
    assert registry_failure("x", error).hint


def test_a_push_that_fails_is_no_matter_of_the_base_mirror() -> None:
    text = 'failed to do request: Head "https://reg.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused'
    assert "base.mirror" in registry_failure("reg.example/a:1", text).hint
    error = registry_failure("reg.example/a:1", text, pushed=True)
    assert isinstance(error, TransientError)
    assert "reg.example is the registry that `--tag` should name" in error.hint


def test_a_step_that_printed_nothing_is_explained_by_buildkit() -> None:
    error = 'process "/bin/sh -c false" did not complete successfully: exit code: 1'
    found = build_failure(FailedBuild(step="[builder 2/9] RUN false", output=(), error=error))
    assert f"  | {error}" in found.message


def test_an_image_that_goes_while_another_is_unpacked_is_no_fault_of_the_build() -> None:
    said = (
        'failed to prepare extraction snapshot "extract-546166931-3JHA sha256:1dce": '
        "parent snapshot sha256:6a02 does not exist: not found"
    )
    error = build_failure(FailedBuild("exporting to image", (), said))
    assert isinstance(error, TransientError)
    assert "was removed while this one was unpacked" in error.message
