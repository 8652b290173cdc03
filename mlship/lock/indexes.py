"""Where packages come from: pip's settings on this machine plus the index options of requirements files."""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlship.lock.inputs import InputFile, read_inputs
from mlship.lock.pip_config import pip_options
from mlship.project.config import Config

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CA = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
_TRUE = {"y", "yes", "t", "true", "on", "1"}


@dataclass(frozen=True)
class PipSettings:
    """Pip's settings on this machine. Addresses may hold passwords, so they are not in the repr.

    Attributes:
        index_url: None for PyPI.
        find_links: local folders as absolute paths, and addresses.
        cert: the certificate bundle that pip trusts; None if unknown.
        proxies: environment variables in lower case, such as ("https_proxy", "http://...").
        constraints: files or addresses that limit versions when the lock is made.
    """

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    cert: Path | None = None
    client_cert: Path | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: str | None = None
    retries: str | None = None
    netrc: Path | None = None
    constraints: tuple[str, ...] = field(default=(), repr=False)

    def indexes(self) -> tuple[str, ...]:
        """Every index, the main one first; none if only find-links are used."""
        return () if self.no_index else (self.index_url or "https://pypi.org/simple", *self.extra_index_urls)


def project_settings(repo: Path, config: Config) -> PipSettings:
    """Pip's settings on this machine plus the index options of the repository's requirements files.

    Raises:
        UsageError: a pip configuration file is malformed; also from read_inputs.
    """
    return with_declared(read_pip_settings(), repo, read_inputs(repo, config))


def read_pip_settings(environment: Mapping[str, str] = os.environ) -> PipSettings:
    """Pip's settings on this machine: configuration files, environment, netrc, proxies and certificates.

    Raises:
        UsageError: a pip configuration file is malformed.
    """
    options = pip_options(environment)

    def words(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(options.get(name, "").split()))

    return PipSettings(
        index_url=options.get("index-url") or options.get("pypi-url"),
        extra_index_urls=words("extra-index-url"),
        find_links=tuple(_absolute(link, Path.cwd()) for link in words("find-links")),
        no_index=options.get("no-index", "").lower() in _TRUE,
        cert=_certificates(options, environment),
        client_cert=_file(options.get("client-cert")),
        trusted_hosts=words("trusted-host"),
        proxies=_proxies(options, environment),
        timeout=options.get("default-timeout") or options.get("timeout"),
        retries=options.get("retries"),
        netrc=_netrc(environment),
        constraints=words("constraint"),
    )


def with_declared(settings: PipSettings, repo: Path, files: tuple[InputFile, ...]) -> PipSettings:
    """`settings` with the index options of requirements files, which override the machine's, as in pip."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-i", "--index-url", "--pypi-url")
    parser.add_argument("--extra-index-url", action="append", default=[])
    parser.add_argument("-f", "--find-links", action="append", default=[])
    parser.add_argument("--trusted-host", action="append", default=[])
    parser.add_argument("--no-index", action="store_true")
    for file in files:
        folders = sorted({str((repo / path).parent.absolute()) for path in file.wheels.values()})
        settings = replace(settings, find_links=_more(tuple(folders), settings.find_links))
        for line in (line for _, line in file.lines() if line.startswith("-")):
            try:
                options, _ = parser.parse_known_args(line.replace("=", " ", 1).split())
            except argparse.ArgumentError:
                continue  # pip-compile reports it
            links = (_absolute(link, (repo / file.path).parent) for link in options.find_links)
            settings = replace(
                settings,
                index_url=options.index_url or settings.index_url,
                extra_index_urls=_more(settings.extra_index_urls, options.extra_index_url),
                find_links=_more(settings.find_links, links),
                trusted_hosts=_more(settings.trusted_hosts, options.trusted_host),
                no_index=options.no_index or settings.no_index,
            )
    return settings


def local_path(address: str) -> Path | None:
    """The path of a file: URL or a plain path; None for a remote address."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return None if "://" in address else Path(address).expanduser()


def _more(known: tuple[str, ...], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *new)))


def _absolute(link: str, beside: Path) -> str:
    path = local_path(link)
    return link if path is None else str((beside / path).absolute())


def _certificates(options: Mapping[str, str], environment: Mapping[str, str]) -> Path | None:
    """The bundle that pip uses: the variables of `requests` override pip's own setting."""
    requests = [environment.get(name) for name in _CA_VARIABLES]
    named = [*requests, options.get("cert"), environment.get("SSL_CERT_FILE")]
    return next((path for name in chain(named, _system_bundles()) if (path := _file(name))), None)


def _system_bundles() -> Iterator[str | None]:
    import ssl  # imported here: a bundle that is named is not searched for

    yield ssl.get_default_verify_paths().cafile
    yield from _SYSTEM_CA


def _file(name: str | None) -> Path | None:
    path = Path(name).expanduser() if name else None
    return path if path and path.is_file() else None


def _proxies(options: Mapping[str, str], environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = {name: environment.get(name) or environment.get(name.upper()) for name in _PROXIES}
    if proxy := options.get("proxy"):
        found |= {"http_proxy": proxy, "https_proxy": proxy}
    return tuple((name, value) for name, value in found.items() if value)


def _netrc(environment: Mapping[str, str]) -> Path | None:
    home = Path(environment.get("HOME") or Path.home())
    if named := environment.get("NETRC"):
        return _file(named)
    return _file(str(home / ".netrc")) or _file(str(home / "_netrc"))
