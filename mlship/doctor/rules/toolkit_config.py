"""Rules about the toolkit's installation: repositories, versions, config.toml, and the sockets that it mounts."""

import re
from itertools import combinations
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import PackageSource
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import is_ubuntu
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import version_numbers

# The files of apt that current guides and packages write.
_KEPT = ("nvidia-container-toolkit", "cuda-")
_SONAMES = ("libnvidia-ml.so.1", "libcuda.so.1")


@computes("ldcache-not-updated-debian-ldconfig")
def _ldconfig(facts: Facts) -> Values:
    config, library = known(facts.host.toolkit.config), _mounted_not_cached(facts.container)
    path = known(config.ldconfig) if config else None
    wrong = _is_wrong(facts, path) if path else None
    return {
        "library": library and library.path,
        "path": path,
        "wrong": wrong,
        "exists": wrong is False,
        "right": _right_ldconfig(facts),
    }


def _mounted_not_cached(place: Place) -> Library | None:
    cache = known(place.loader.cache)
    if cache is None or any(name in cache for name in _SONAMES):
        return None
    mounted = (library for library in each(place.loader.libraries) if known(library.mounted))
    return next((one for one in mounted if "/compat/" not in one.path and "/stubs/" not in one.path), None)


def _is_wrong(facts: Facts, path: str) -> bool | None:
    """The path is not on the host, or does not exist; None if neither a probe nor the distribution shows it."""
    if not path.startswith("@"):
        return True
    there = looked_up(facts.host.paths, path[1:])
    if is_known(there):
        return there is None
    if known(facts.host.os.id) is None:
        return None
    return path == "@/sbin/ldconfig.real" and not is_ubuntu(facts)


def _right_ldconfig(facts: Facts) -> str:
    there, ubuntu = known(facts.host.paths) or {}, known(facts.host.os.id) is not None and is_ubuntu(facts)
    for path in ("/sbin/ldconfig.real", "/sbin/ldconfig"):
        if known(there.get(path)):
            return f"@{path}"
    usual = "/sbin/ldconfig.real" if ubuntu else "/sbin/ldconfig"
    return "@$(command -v ldconfig)" if usual in there else f"@{usual}"


@computes("toolkit-libnvidia-container-version-skew")
def _skew(facts: Facts) -> Values | None:
    toolkit, cli = known(facts.host.toolkit.version) or "", known(facts.host.toolkit.cli_version) or ""
    numbers = (version_numbers(toolkit)[:3], version_numbers(cli)[:3])
    names = "nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1"
    return {
        "differs": all(numbers) and numbers[0] != numbers[1],
        "drops": numbers[1] == (1, 17, 7),
        "wanted": max((toolkit, cli, "1.17.8"), key=version_numbers),
        "install_both": commands.install_command(facts, names),
    }


@computes("apt-signed-by-conflict")
def _two_keys(facts: Facts) -> Values:
    pair = _conflict(facts)
    files = [quote(known(source.file) or "") for source in pair]
    ours = (file for name in _KEPT for file in files if file.rpartition("/")[2].startswith(name))
    keep = next(ours, files[-1] if files else "")
    return {
        "pair": tuple(
            Evidence(
                "host.packages.sources", f"{known(one.file)}: {known(one.uri)} ({known(one.signed_by) or 'no key'})"
            )
            for one in pair
        ),
        "files": " and ".join(files),
        "keep": keep,
        "remove": " ".join(file for file in files if file != keep),
    }


def _conflict(facts: Facts) -> tuple[PackageSource, ...]:
    """The first two files that list the same repository with different keys."""
    sources = [one for one in each(facts.host.packages.sources) if known(one.uri) and is_known(one.signed_by)]
    pairs = combinations(sources if commands.manager(facts) == "apt" else (), 2)
    return next((p for p in pairs if _at(facts, p[0]) == _at(facts, p[1]) and p[0].signed_by != p[1].signed_by), ())


def _at(facts: Facts, source: PackageSource) -> str:
    """The repository in the form that apt compares."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(known(facts.host.os.arch) or "", "")
    return re.sub(r"[/ ]+$", "", (known(source.uri) or "").replace("$(ARCH)", arch))
