"""Mask what identifies a person, a machine or a network in facts, and keep what a diagnosis needs. Pure.

A name gets the same mask everywhere in the file, so that equal names stay recognizable.
"""

import json
import re
from collections.abc import Callable

from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import parse_facts
from mlship.redact import redact

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
_IPV4 = re.compile(r"(?<![\w.-])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.-]*\w)")
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:])|(?<![\w:])[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*::[0-9a-fA-F:]*"
)
_HOME = re.compile(r"(?<=/home/)[^/\s:'\"]+|(?<=/Users/)[^/\s:'\"]+")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"(?<=://)(?:[^/\s@]+@)?([\w.-]+)")
_ASSIGNED = re.compile(
    r"(?i)\b([\w-]*(?:token|secret|password|passwd|api_?key|serial(?:_?number)?))([=:]\s*)(?!\*\*\*)\S+"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_PUBLIC = re.compile(
    r"(?:^|\.)(?:nvidia\.com|nvidia\.github\.io|nvcr\.io|docker\.com|docker\.io|ghcr\.io|quay\.io|gcr\.io|k8s\.io"
    r"|ubuntu\.com|debian\.org|fedoraproject\.org|redhat\.com|github\.com|pypi\.org|pytorch\.org)$"
)
# Keys whose values are versions, in which four numbers with dots are not an address.
_VERSIONS = re.compile(r"(?:^|_)version$|^(?:distributions|installed|old|new)$")
# Options of the kernel command line whose values a diagnosis needs; others may name a disk, a server or a cloud.
_OPTION = re.compile(
    r"^[\w.-]*(nvidia|nouveau|blacklist|iommu|pci|vfio|kaslr|modeset|lockdown|module|cgroup|mem|hugepages|ostree)[\w.-]*$"
)
# Words that a diagnosis needs: a machine with such a name keeps it.
_WORDS = frozenset(
    (
        *("ubuntu", "debian", "fedora", "centos", "rhel", "rocky", "alma", "suse", "arch"),
        *("nvidia", "cuda", "gpu", "docker", "podman", "containerd", "kernel", "host", "linux"),
        *("localhost", "container", "default", "root", "none", "active", "kubernetes", "node", "master"),
        *("worker", "jetson", "tegra", "wsl", "server"),
    )
)


def mask(facts: Facts, names: tuple[str, ...] = ()) -> Facts:
    """The facts with everything private masked.

    Args:
        names: the names of this machine and its user.
    """
    masking = _Masking(tuple(name for name in names if len(name) > 2 and name.lower() not in _WORDS))
    plain: object = json.loads(facts.to_json())
    return parse_facts(json.dumps(masking.value(plain, "")), "masked facts")


class _Masking:
    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = [re.compile(rf"(?<![\w.-]){re.escape(name)}(?:\.[\w.-]*\w)?(?![\w-])") for name in names]
        self._given: dict[tuple[str, str], str] = {}

    def value(self, value: object, key: str) -> object:
        """Mask strings at any depth; keys are field names, paths or variable names."""
        if isinstance(value, dict):
            return {self.text(name, "") if "/" in name else name: self._entry(value[name], name, key) for name in value}
        if isinstance(value, list):
            return [self.value(item, key) for item in value]
        return self.text(value, key) if isinstance(value, str) else value

    def _entry(self, value: object, name: str, table: str) -> object:
        if table == "env" and _SECRET.search(name):
            return "***"
        if name == "node" and isinstance(value, str):
            return "node"
        return self.value(value, table if _VERSIONS.search(table) else name)

    def text(self, text: str, key: str) -> str:
        if _VERSIONS.search(key):
            return text
        if key == "cmdline":
            text = " ".join(_option(word) for word in text.split())
        text = _ASSIGNED.sub(r"\1\2***", redact(text))
        text = _UUID.sub(self._numbered("uuid", "00000000-0000-4000-8000-{:012d}"), text)
        text = _MAC.sub("00:00:00:00:00:00", text)
        text = _URL.sub(_public_host, text)
        text = _MAIL.sub("user@example.com", text)
        text = _IPV4.sub(self._numbered("address", "192.0.2.{}"), _IPV6.sub("2001:db8::1", text))
        text = _HOME.sub(self._numbered("home", "user{}"), text)
        for name in self._names:
            text = name.sub("masked", text)
        return text

    def _numbered(self, kind: str, pattern: str) -> Callable[[re.Match[str]], str]:
        def given(found: re.Match[str]) -> str:
            already = sum(one == kind for one, _ in self._given)
            return self._given.setdefault((kind, found[0]), pattern.format(already + 1))

        return given


def _option(word: str) -> str:
    name, is_set, _ = word.partition("=")
    return word if not is_set or _OPTION.search(name) else f"{name}=masked"


def _public_host(found: re.Match[str]) -> str:
    host = found[1]
    return host if _PUBLIC.search(host) or host in {"localhost", "127.0.0.1"} else "masked.example"
