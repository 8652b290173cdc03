"""Rules about the toolkit's installation: repositories, versions, config.toml, and the sockets that it mounts."""

import re
from itertools import combinations
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import works
from mlship.doctor.facts.fact import each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import PackageSource
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Decider, Evidence, Finding, Step
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import Rule, computes
from mlship.doctor.versions import version_numbers

_SONAMES = ("libnvidia-ml.so.1", "libcuda.so.1")
_DROPS_FLAGS = (1, 17, 7)
_MUST_MATCH = (1, 18)


_NOT_RUN = r"ldcache error: .*ldconfig.*(no such file|not found)"


class LdconfigPath(Rule, id="ldcache-not-updated-debian-ldconfig"):
    def look(self, facts: Facts) -> Finding | None:
        library = self._mounted_not_cached(facts.container)
        if library is None and (line := line_of(facts, _NOT_RUN)):
            return self._refused(facts, line)
        if library is None or works(facts) or known(facts.container.libc.family) == "musl":
            return None
        config = known(facts.host.toolkit.config)
        path = known(config.ldconfig) if config else None
        wrong = self._is_wrong(facts, path) if path else None
        helps = known(facts.container.loader.ldconfig_helps) is True
        if wrong is False or (wrong is None and (path or not helps)):
            return None
        right = self._right(facts)
        return self.found(
            facts,
            where="container",
            certain=bool(wrong),
            cause=f"{library.path} is mounted, but the loader's cache lacks it: the hook "
            + (f"could not run {path}." if path else "did not run ldconfig."),
            fix=(
                Step(
                    "Set the host's ldconfig in config.toml, and recreate the container:",
                    (f"sudo nvidia-ctk config --in-place --set nvidia-container-cli.ldconfig={right}",),
                ),
                Step("Or upgrade the toolkit to 1.17 or newer, which finds ldconfig by itself.", instead=True),
            ),
            evidence=(
                Evidence("container.loader.libraries", library.path),
                Evidence("container.loader.cache", "does not list it"),
                Evidence("host.toolkit.config.ldconfig", path) if path else None,
                Evidence("container.loader.ldconfig_helps", "yes") if helps else None,
            ),
            decides=(
                Decider("host.toolkit.config.ldconfig", "grep ldconfig /etc/nvidia-container-runtime/config.toml"),
            ),
        )

    def _refused(self, facts: Facts, line: Evidence) -> Finding | None:
        """The hook failed, so the container did not start."""
        config = known(facts.host.toolkit.config)
        path = known(config.ldconfig) if config else None
        if not path or works(facts) or self._is_wrong(facts, path) is False:
            return None
        set_right = f"sudo nvidia-ctk config --in-place --set nvidia-container-cli.ldconfig={self._right(facts)}"
        return self.found(
            facts,
            where="container",
            cause=f"The hook could not run {path}, which is set in config.toml.",
            fix=(Step("Set the host's ldconfig in config.toml, and recreate the container:", (set_right,)),),
            evidence=(Evidence("host.toolkit.config.ldconfig", path), line),
        )

    @staticmethod
    def _mounted_not_cached(place: Place) -> Library | None:
        cache = known(place.loader.cache)
        if cache is None or any(name in cache for name in _SONAMES):
            return None
        mounted = (library for library in each(place.loader.libraries) if known(library.mounted))
        return next((one for one in mounted if "/compat/" not in one.path and "/stubs/" not in one.path), None)

    @staticmethod
    def _is_wrong(facts: Facts, path: str) -> bool | None:
        """The path is not on the host, or does not exist; None if neither a probe nor the distribution shows it."""
        if not path.startswith("@"):
            return True
        there = looked_up(facts.host.paths, path[1:])
        if is_known(there):
            return there is None
        if known(facts.host.os.id) is None:
            return None
        return path == "@/sbin/ldconfig.real" and not LdconfigPath._is_ubuntu(facts)

    @staticmethod
    def _is_ubuntu(facts: Facts) -> bool:
        names = f"{known(facts.host.os.id) or ''} {known(facts.host.os.like) or ''}"
        return "ubuntu" in names.split()

    @staticmethod
    def _right(facts: Facts) -> str:
        there = known(facts.host.paths) or {}
        for path in ("/sbin/ldconfig.real", "/sbin/ldconfig"):
            if known(there.get(path)):
                return f"@{path}"
        usual = "/sbin/ldconfig.real" if LdconfigPath._is_ubuntu(facts) else "/sbin/ldconfig"
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


class AptSignedBy(Rule, id="apt-signed-by-conflict"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, "Conflicting values set for option Signed-By.*nvidia")
        pair = self._conflict(facts)
        if pair is None and (line is None or is_known(facts.host.packages.sources)):
            return None
        one, other = pair or (None, None)
        files = [quote(known(source.file) or "") for source in (one, other) if source]
        keep = self._keep(files) if files else "nvidia-container-toolkit.list"
        remove = " ".join(file for file in files if file != keep) or (
            "$(grep -l nvidia.github.io /etc/apt/sources.list.d/* | grep -v /nvidia-container-toolkit.list$)"
        )
        return self.found(
            facts,
            {
                "files": " and ".join(files) or "Two files in /etc/apt/sources.list.d",
                "keep": keep,
                "remove": remove,
                "is_absent": is_absent(facts.host.toolkit.version),
            },
            certain=bool(pair),
            evidence=(
                *(self._shown(source) for source in (one, other) if source),
                Evidence("host.toolkit.version", "not installed") if is_absent(facts.host.toolkit.version) else None,
                line,
            ),
        )

    @classmethod
    def _conflict(cls, facts: Facts) -> tuple[PackageSource, PackageSource] | None:
        if commands.manager(facts) != "apt":
            return None
        sources = [one for one in each(facts.host.packages.sources) if known(one.uri) and is_known(one.signed_by)]
        for one, other in combinations(sources, 2):
            if cls._where(facts, one) == cls._where(facts, other) and one.signed_by != other.signed_by:
                return one, other
        return None

    @staticmethod
    def _where(facts: Facts, source: PackageSource) -> str:
        """The repository in the form that apt compares."""
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(known(facts.host.os.arch) or "", "")
        return re.sub(r"[/ ]+$", "", (known(source.uri) or "").replace("$(ARCH)", arch))

    @staticmethod
    def _keep(files: list[str]) -> str:
        """The file that current guides and packages write; otherwise the last one."""
        ours = ("nvidia-container-toolkit", "cuda-")
        return next((file for name in ours for file in files if file.rpartition("/")[2].startswith(name)), files[-1])

    @staticmethod
    def _shown(source: PackageSource) -> Evidence:
        key = known(source.signed_by) or "no key"
        return Evidence("host.packages.sources", f"{known(source.file)}: {known(source.uri)} ({key})")
