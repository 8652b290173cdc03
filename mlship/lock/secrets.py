"""pip's settings as BuildKit secrets: they reach every installing step, but no layer, history or cache key.

templates/secrets.j2 mounts them. The same Dockerfile works with all, some or none of them.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from mlship.errors import UsageError
from mlship.lock.indexes import PipSettings, local_path

SECRETS = {
    "mlship-env": "lines `export NAME='VALUE'`: PIP_INDEX_URL and UV_DEFAULT_INDEX, proxies, and so on",
    "mlship-ca": "the certificates to trust, in PEM; mlship-env then needs PIP_CERT and SSL_CERT_FILE",
    "mlship-netrc": "user names and passwords of indexes; mlship-env then needs NETRC",
    "mlship-client-cert": "a client certificate; mlship-env then needs PIP_CLIENT_CERT and SSL_CLIENT_CERT",
}
_MOUNTED = "/run/secrets"
_LIMIT = 500 * 1024  # bytes; BuildKit's limit for one secret
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)


def build_secrets(settings: PipSettings) -> dict[str, bytes]:
    """The non-empty secrets of a build, by id.

    Raises:
        UsageError: a file in pip's settings cannot be read, or is too large for BuildKit.
    """
    secrets = {name: _read(path) for name, path in _files(settings).items() if path}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in _variables(settings)]
    return {**secrets, "mlship-env": "".join(lines).encode()} if lines else secrets


def _files(settings: PipSettings) -> dict[str, Path | None]:
    return {"mlship-ca": settings.cert, "mlship-netrc": settings.netrc, "mlship-client-cert": settings.client_cert}


def _variables(settings: PipSettings) -> Iterator[tuple[str, str]]:
    """Of pip and of uv, which has names of its own."""
    yield from _index_variables(settings)
    mounted = {name: f"{_MOUNTED}/{name}" if path else None for name, path in _files(settings).items()}
    table = (
        (("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"), " ".join(settings.trusted_hosts)),
        (("PIP_DEFAULT_TIMEOUT",), settings.timeout),
        (("UV_HTTP_TIMEOUT",), (settings.timeout or "").split(".")[0]),
        (("PIP_RETRIES", "UV_HTTP_RETRIES"), settings.retries),
        (("PIP_CERT", "SSL_CERT_FILE"), mounted["mlship-ca"]),
        (("PIP_CLIENT_CERT", "SSL_CLIENT_CERT"), mounted["mlship-client-cert"]),
        (("NETRC",), mounted["mlship-netrc"]),
        *(((name, name.upper()), value) for name, value in settings.proxies),
    )
    yield from ((name, value) for names, value in table if value for name in names)


def _index_variables(settings: PipSettings) -> Iterator[tuple[str, str]]:
    """Without local indexes and folders, whose files come through the wheelhouse."""
    remote = [index for index in settings.indexes() if local_path(index) is None]
    if not remote:
        yield from (("PIP_NO_INDEX", "1"), ("UV_NO_INDEX", "1"))
    elif settings.index_url or len(remote) > 1:
        main, *extra = remote
        yield from (("PIP_INDEX_URL", main), ("UV_DEFAULT_INDEX", main))
        if extra:
            # pip takes the best version of any index; uv would stop at the first. The hashes make that safe.
            both = " ".join(extra)
            yield from (("PIP_EXTRA_INDEX_URL", both), ("UV_INDEX", both), ("UV_INDEX_STRATEGY", "unsafe-best-match"))
    if links := [link for link in settings.find_links if local_path(link) is None]:
        yield from (("PIP_FIND_LINKS", " ".join(links)), ("UV_FIND_LINKS", ",".join(links)))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = "make it readable, or correct the setting (`pip config list` and the environment show it)"
        raise UsageError(f"cannot read `{path}`, which is in pip's configuration", hint=hint) from error
    if len(content) > _LIMIT:
        content = b"".join(match[0] for match in _PEM.finditer(content))
    if not 0 < len(content) <= _LIMIT:
        hint = "use a bundle with only the certificates you need: `pip config set global.cert FILE`"
        raise UsageError(f"`{path}` is larger than 500 KiB, the limit of a build secret", hint=hint)
    return content
