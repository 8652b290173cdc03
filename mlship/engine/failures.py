"""The engine's, BuildKit's, pip's and uv's error texts as errors with a cause and a remedy.

Such text is matched here and, where it is about GPUs, in `mlship.engine.gpu`. Pure; every pattern has the text it
was captured from in the tests.
"""

import re
from dataclasses import dataclass

from mlship.engine.causes import KnownText, explain, last_line
from mlship.errors import BuildError, EngineError, MlshipError, TransientError, UsageError

_SHOW_DOCKERFILE = "its last lines say more; `mlship dockerfile` prints the step in full"
_FREE_ROOM = "`docker system df` shows what takes the room, `docker buildx prune` frees the build cache; then try again"
_TRY_AGAIN = "try again in a while; check network and proxy of the engine's host if it stays so"
_PIP_SETTINGS = "the build uses what pip uses on this machine: check `pip config list` and ~/.netrc"
_NO_ENGINE = (
    "no Docker Engine answers",
    (
        "start it (`sudo systemctl start docker`, or Docker Desktop); "
        "`docker version` must answer, and `docker context ls` and DOCKER_HOST say which engine is meant"
    ),
)
_REBUILT = (
    "the index serves another {package} {version} than the one that was locked (its hash differs)",
    (
        "if the index rebuilt it, `mlship lock --upgrade-package {package}`; "
        "if not, somebody may have tampered with it: ask who runs the index"
    ),
)
_PACKAGE = r"(?P<package>[A-Za-z0-9][\w.-]*)"


@dataclass(frozen=True)
class FailedBuild:
    """What is known of a build that failed.

    Attributes:
        step: BuildKit's name of the step; empty where none was reached.
        output: its own last lines.
        error: BuildKit's error text.
    """

    step: str
    output: tuple[str, ...]
    error: str


_ENGINE = (
    KnownText(
        r"[Pp]ermission denied.*(?:docker\.sock|[Dd]ocker daemon|docker API)|PermissionError\(13|\[Errno 13\]",
        EngineError,
        "this user may not talk to the Docker Engine",
        "join its group with `sudo usermod -aG docker $USER`, then `newgrp docker` or log in again; "
        "or use a rootless engine: https://docs.docker.com/engine/security/rootless/",
    ),
    KnownText(
        r"Cannot connect to the Docker daemon|failed to connect to the docker API|error during connect",
        EngineError,
        *_NO_ENGINE,
    ),
    KnownText(
        r"invalid progress mode|invalid value \"rawjson\"|unknown progress",
        EngineError,
        "this buildx is too old",
        "install buildx 0.13 or newer: package docker-buildx-plugin (Docker's) or docker-buildx (Debian, Ubuntu)",
    ),
    KnownText(
        r"no builder \"(?P<builder>[^\"]+)\" found",
        UsageError,
        "there is no builder named {builder}",
        "`docker buildx ls` lists them",
    ),
    KnownText(
        r"invalid reference format(?P<what>[^\n]*)",
        UsageError,
        "this is not the name of an image{what}",
        "give it as name:tag or registry/name:tag, in lower case",
    ),
    KnownText(
        r"tag does not exist|No such image|An image does not exist locally",
        UsageError,
        "the engine has no such image",
        "`docker images` lists what it has; build it with `mlship build --tag NAME`",
    ),
    KnownText(
        r"error getting credentials.*?(?P<helper>docker-credential-[\w.-]+)",
        EngineError,
        "docker's configuration names a credential helper that does not work: {helper}",
        "install {helper}, or remove it from credsStore and credHelpers in ~/.docker/config.json",
    ),
)

# What the SDK says when nobody is at the other end; in a build's output the same words mean an index.
_SDK = (
    KnownText(
        r"Error while fetching server API version|Connection aborted|\[Errno 2\]|Max retries exceeded",
        EngineError,
        *_NO_ENGINE,
    ),
    KnownText(r"(?i)timed out", TransientError, "the Docker Engine does not answer in time", _TRY_AGAIN),
)

_GONE = KnownText(
    r"parent snapshot \S+ does not exist",
    TransientError,
    "somebody removed an image while this one, which shares layers with it, was unpacked",
    "run the same command again",
)
_DISK = (
    KnownText(
        r"(?i)write (?P<path>\S+)/mlship-build-\w+/image\.tar: (?:no space left on device|disk quota exceeded)",
        TransientError,
        "{path} has no room for the image, which a reproducible build writes there first",
        "set TMPDIR to a folder with room for the whole image, base included, and run the same command again",
    ),
    KnownText(r"(?i)no space left on device|disk quota exceeded", TransientError, "the disk is full", _FREE_ROOM),
)

_CERTIFICATES = (
    KnownText(
        r"x509: (?P<what>[^\n\"]+)",
        BuildError,
        "the engine does not trust the registry's certificate ({what})",
        "give the engine the CA: /etc/docker/certs.d/<registry>/ca.crt, or in its system's CA store and restart it",
    ),
    KnownText(
        r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED",
        BuildError,
        "the package index's certificate is not trusted",
        "name the CA bundle in pip's own setting, mlship passes it on: `pip config set global.cert /path/to/ca.pem`",
    ),
)

_INSTALL = (
    KnownText(
        rf"Hash mismatch for `{_PACKAGE}==(?P<version>[^`]+)`",
        BuildError,
        *_REBUILT,
    ),
    KnownText(
        rf"DO NOT MATCH THE HASHES[\s\S]*?^\s*{_PACKAGE}==(?P<version>\S+) from",
        BuildError,
        *_REBUILT,
    ),
    KnownText(
        rf"all requirements must have a hash, but none were provided for: {_PACKAGE}",
        BuildError,
        "the lock has no hash for {package}",
        "run `mlship lock` and commit what it writes",
    ),
    KnownText(
        rf"Because {_PACKAGE}==(?P<version>\S+) has no (?:wheels|compatible) .*?(?P<tag>platform|ABI|Python)",
        BuildError,
        "{package} {version} has no wheel that fits the image's {tag}",
        "ask for a version that has one in requirements.in, or change python or platform in mlship.yaml; "
        "then `mlship lock`",
    ),
    KnownText(
        rf"Because {_PACKAGE}==(?P<version>\S+) has no source distribution",
        BuildError,
        "{package} is to be compiled, and what is locked of {package} {version} is wheels only",
        "remove {package} from gpu.compile in mlship.yaml, or ask for a version with sources in requirements.in; "
        "then `mlship lock`",
    ),
    KnownText(
        r"--no-build-isolation[\s\S]*ModuleNotFoundError: No module named '(?P<module>\w+)",
        BuildError,
        "what is compiled needs the module {module} for it, and the lock has none",
        "add the package that has {module} to requirements.in, as is done with what it is compiled against "
        "(setuptools, wheel and ninja are the usual ones); then `mlship lock`",
    ),
    KnownText(
        r"lack of valid authentication credentials|returned a 403 Forbidden",
        BuildError,
        "the package index refused the credentials that it was given",
        _PIP_SETTINGS,
    ),
    KnownText(
        rf"Because (?:there is no version of )?{_PACKAGE}(?:==\S+)? (?:was not found in the|and you require)",
        BuildError,
        "the indexes that the build uses do not have {package} as it was locked",
        f"{_PIP_SETTINGS}; or run `mlship lock` to lock what the indexes have",
    ),
    KnownText(
        rf"No matching distribution found for {_PACKAGE}",
        BuildError,
        "no index that the build reaches has {package} as it was locked, for this Python and platform",
        f"{_PIP_SETTINGS}, and that the index answers; or run `mlship lock` to lock what the indexes have",
    ),
    KnownText(
        r"(?:No such file or directory: '|command ')(?:[\w./-]*[-/])?(?P<tool>gcc|cc|clang|g\+\+|c\+\+)'",
        BuildError,
        "a package without a wheel must be compiled, and the builder has no {tool}",
        "in mlship.yaml set `system: {{build: [gcc, g++, libc6-dev]}}` (the final image stays without); "
        "or lock a version that has a wheel",
    ),
    KnownText(
        r"(?:No such file or directory: '|command '|can't find |program not found: )"
        r"(?:[\w./-]*/)?(?P<tool>cmake|make|ninja|cargo|rustc|gfortran|nvcc|pkg-config)\b",
        BuildError,
        "a package without a wheel must be compiled, and the builder has no {tool}",
        "name the Debian package that has {tool} in mlship.yaml under system.build; or lock a version that has a wheel",
    ),
    KnownText(
        r"fatal error: (?P<header>[\w./+-]+): No such file",
        BuildError,
        "a package without a wheel must be compiled, and the builder lacks the header {header}",
        "name the Debian package that has {header} (`apt-file search {header}`) in mlship.yaml under system.build",
    ),
    KnownText(
        r"(?:Unable to locate package|E: Package '?)\s*(?P<package>[a-z0-9][a-z0-9+.-]*)",
        BuildError,
        "this Debian release has no package {package}",
        "correct system.build and system.run in mlship.yaml; https://packages.debian.org lists the names",
    ),
)

_REGISTRY = (
    KnownText(
        r"unexpected status from \w+ request to (?P<url>[^\s?]+)[^:]*: 40[13]"
        r"|(?i:unauthorized|pull access denied|access to the resource is denied|authorization failed|^denied)",
        BuildError,
        "the registry refuses access",
        "`docker login <registry>` with an account that may; and see that the name is right",
    ),
    KnownText(
        r"(?P<status>\b429 Too Many Requests|\b5\d\d [A-Z][A-Za-z ]+)|toomanyrequests",
        TransientError,
        "a registry or index is busy or broken",
        f"{_TRY_AGAIN}; `docker login` and base.mirror in mlship.yaml help against Docker Hub's limits",
    ),
    KnownText(
        r"lookup (?P<host>[\w.-]+)(?: on \S+)?: |(?i:failed to lookup address|name resolution|could not resolve"
        r"|temporary failure resolving)",
        TransientError,
        "a host name could not be looked up",
        f"{_TRY_AGAIN}; where the registry cannot be reached from here, set base.mirror in mlship.yaml",
    ),
    KnownText(
        r"(?i:connection refused|connection reset|network is unreachable|no route to host|i/o timeout|timed out"
        r"|handshake timeout|deadline exceeded|unexpected eof|: eof\b|dial tcp|tls handshake)",
        TransientError,
        "a registry or index does not answer",
        f"{_TRY_AGAIN}; where the registry cannot be reached from here, set base.mirror in mlship.yaml",
    ),
    KnownText(
        r"(?P<image>[^\s\"]+)@sha256:[0-9a-f]{64}: not found",
        BuildError,
        "the registry no longer has the locked digest of {image}",
        "run `mlship lock` to lock the image that it has; or set base.mirror in mlship.yaml to one that keeps it",
    ),
    KnownText(
        r"^[^\s\"]+/[^\s\"]+:[\w.-]+: not found|failed to resolve source metadata for .*: not found"
        r"|manifest unknown|name unknown",
        BuildError,
        "the registry has no such image",
        "check base.mirror in mlship.yaml (MLSHIP_BASE_MIRROR overrides it)",
    ),
)

_STEP = (
    KnownText(
        r"(?:failed to calculate checksum|failed to compute cache key).*\"/?(?P<path>[^\"]+)\": not found",
        BuildError,
        "{path} is not there, or .dockerignore leaves it out",
        "correct `source:` and `model:` in mlship.yaml so that they name files of the repository",
    ),
    KnownText(
        r"exit code: 137|signal: killed",
        BuildError,
        "the step was killed: as a rule it needed more memory than the engine's host has",
        "give the engine more memory (Docker Desktop: Settings, Resources), or build less at once",
    ),
    KnownText(
        r"(?i)exec format error",
        BuildError,
        "the engine's host cannot run programs of the image's platform",
        "build on a host of that platform, or install emulation: "
        "`docker run --privileged --rm tonistiigi/binfmt --install all`",
    ),
    KnownText(
        r"no match for platform in manifest",
        BuildError,
        "the base image does not exist for the image's platform",
        "correct `platform:` in mlship.yaml, or mirror the base image with all its platforms",
    ),
    KnownText(
        r"dockerfile parse error|failed to parse stage name|unknown instruction",
        MlshipError,
        "mlship wrote a Dockerfile that BuildKit does not read",
        "this is a bug in mlship: please report it with the output of `mlship dockerfile`",
    ),
    KnownText(
        r"(?i)permission denied",
        BuildError,
        "the step may not read, write or run one of its files",
        f"check the modes of your files (`ls -l`); {_SHOW_DOCKERFILE}",
    ),
    KnownText(
        r"did not complete successfully: exit code: (?P<code>\d+)",
        BuildError,
        "a step ended with exit code {code}",
        _SHOW_DOCKERFILE,
    ),
)

# What a check of mlship's own has found in the image: it names the remedy itself.
_OWN = (
    KnownText(r"^mlship: (?P<why>.+)\n(?:.*\n)*?hint: (?P<hint>.+)", BuildError, "{why}", "{hint}"),
    KnownText(r"^mlship: (?P<why>.+)", BuildError, "{why}", _SHOW_DOCKERFILE),
)

# What pip says of a certificate or a full disk is followed by "no matching distribution": the cause comes first.
_BUILD = (*_OWN, _GONE, *_ENGINE, *_DISK, *_CERTIFICATES, *_INSTALL, *_STEP[:1], *_REGISTRY, *_STEP[1:])


def build_failure(failed: FailedBuild) -> MlshipError:
    """Why a build failed: the cause, the step, its own last lines, and what to do."""
    text = "\n".join((failed.error, *failed.output))
    known = explain(text, _BUILD) or BuildError(last_line(failed.error), hint=_SHOW_DOCKERFILE)
    parts = [f"the image build failed: {known.message}"]
    if failed.step:
        parts.append(f"  step: {' '.join(failed.step.split())}")
    parts.extend(f"  | {line}" for line in failed.output or _details(failed))
    return type(known)("\n".join(parts), hint=known.hint)


def registry_failure(reference: str, text: str) -> MlshipError:
    """Why a registry gave no answer to a question about `reference`."""
    known = explain(text, (*_ENGINE[-3:], *_DISK, *_CERTIFICATES, *_REGISTRY))
    where = f"{reference} in {registry_of(reference)}"
    if known is None:
        return TransientError(f"{where}: {last_line(text)}", hint=_TRY_AGAIN)
    # Outside a build, what is not there or not allowed is a matter of names and settings.
    kind = UsageError if isinstance(known, BuildError) else type(known)
    return kind(f"{where}: {known.message} ({last_line(text)})", hint=known.hint)


def push_failure(reference: str, text: str) -> MlshipError:
    """Why a registry did not take an image: what it is called decides where it goes, not base.mirror."""
    known = registry_failure(reference, text)
    if "base.mirror" not in known.hint:
        return known
    where = registry_of(reference)
    hint = f"check that {where} is the registry that --tag should name, and that it answers; then run the same command"
    return type(known)(known.message, hint=hint)


def engine_failure(text: str) -> MlshipError:
    """Why the engine did not do what it was asked."""
    known = explain(text, (*_DISK, *_ENGINE, *_SDK))
    return known or EngineError(f"the Docker Engine refused: {last_line(text)}", hint="see `docker version`")


def start_failure(image: str, text: str) -> UsageError | None:
    """Why a container could not start, where the image is the reason; None where it is not."""
    if re.search(r"(?i)no such image|pull access denied", text):
        return UsageError(
            f"the engine has no image {image}", hint=f"`docker pull {image}`, or build it: `mlship build`"
        )
    if found := re.search(r"exec: \"(?P<program>[^\"]+)\": (?P<what>[^:\n]+)", text):
        return UsageError(
            f"{image} cannot start: {found['program']}: {found['what']}",
            hint="serve.command in mlship.yaml must name a program that is in the image",
        )
    return None


def no_docker() -> EngineError:
    """There is no docker program."""
    return EngineError(
        "there is no docker program on PATH",
        hint="install Docker Engine 23 or newer with buildx: https://docs.docker.com/engine/install/",
    )


def disk_failure(error: OSError) -> MlshipError:
    """A temporary file of ours could not be written."""
    return TransientError(f"a temporary file could not be written: {error.strerror or error}", hint=_FREE_ROOM)


def registry_of(reference: str) -> str:
    """The registry that a reference names: 127.0.0.1:5000, or Docker Hub."""
    first, slash, _ = reference.partition("/")
    named = slash and (first == "localhost" or any(sign in first for sign in ".:"))
    return first if named else "Docker Hub"


def _details(failed: FailedBuild) -> list[str]:
    """A step that printed nothing is explained by BuildKit's own words."""
    return [line for line in failed.error.splitlines() if line.strip()][-3:]
