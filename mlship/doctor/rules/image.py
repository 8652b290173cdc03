"""Rules about the image: what it should not contain, and what it lacks."""

from shlex import quote

from mlship.cuda.versions import Driver
from mlship.doctor import advice, commands
from mlship.doctor.container import environment
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.frameworks import profile
from mlship.doctor.queries import brands, is_compat, kernel_driver, places, variable
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import branch, newer, same, version_numbers
from mlship.driver import codes

_CONSUMER = frozenset({"GeForce", "Titan"})
_CUDA_DIFFERS = frozenset({803, 804})


class DriverInImage(Rule, id="nvml-mismatch-only-inside-container"):
    def look(self, facts: Facts) -> Finding | None:
        module = kernel_driver(facts)
        if module is None or known(facts.host.nvml.init) not in {0, None}:
            return None
        library = self._loaded(facts, module) or self._on_disk(facts, module)
        if library is None:
            return None
        code, cuda = known(facts.container.nvml.init), known(facts.container.cuda.init)
        called = code is not None or cuda is not None
        return self.found(
            facts,
            {"path": library.path, "version": known(library.version), "module": module, "purge": self._purge(library)},
            where="container",
            certain=called,
            evidence=(
                Evidence("container.nvml.init", codes.nvml(code)) if code else None,
                Evidence("container.cuda.init", codes.cuda(cuda)) if cuda else None,
                Evidence(self._seen_as(facts, library), library.path),
                Evidence("kernel.nvidia.version", module),
                Evidence("host.nvml.init", codes.nvml(0)) if known(facts.host.nvml.init) == 0 else None,
            ),
        )

    @staticmethod
    def _seen_as(facts: Facts, library: Library) -> str:
        named = ("container.nvml.library", known(facts.container.nvml.library))
        cuda = ("container.cuda.library", known(facts.container.cuda.library))
        return next((name for name, one in (named, cuda) if one == library), "image.driver_libraries")

    @staticmethod
    def _purge(library: Library) -> str:
        package = known(library.package)
        return " ".join(
            ("RUN apt-get purge -y", *((quote(package),) if package else ("'libnvidia-*' 'nvidia-utils-*'",)))
        )

    @staticmethod
    def _loaded(facts: Facts, module: str) -> Library | None:
        nvml, cuda = facts.container.nvml, facts.container.cuda
        fails = ((nvml.library, known(nvml.init) == 18), (cuda.library, known(cuda.init) in _CUDA_DIFFERS))
        for fact, differs in fails:
            library = known(fact)
            version = known(library.version) if library else None
            if library is None or version is None or same(version, module) or known(library.mounted) is not False:
                continue
            if differs and not is_compat(library.path):
                return library
        return None

    @staticmethod
    def _on_disk(facts: Facts, module: str) -> Library | None:
        """No container was examined yet: the outcome depends on which of the two the loader picks."""
        if known(facts.container.nvml.init) is not None or known(facts.container.cuda.init) is not None:
            return None
        for library in each(facts.image.driver_libraries):
            version = known(library.version)
            if version and not same(version, module) and not is_compat(library.path):
                return library
        return None


class CompatOlderThanDriver(Rule, id="compat-older-than-host-driver-803"):
    def look(self, facts: Facts) -> Finding | None:
        module = kernel_driver(facts)
        for where, place in places(facts):
            library = known(place.cuda.library)
            if library is None or known(place.cuda.init) != 803 or not is_compat(library.path):
                continue
            version = known(library.version)
            if module and version and not newer(module, version):
                continue
            return self._finding(facts, where, place, library)
        return None

    def _finding(self, facts: Facts, where: Where, place: Place, library: Library) -> Finding:
        module, version = kernel_driver(facts), known(library.version)
        sure = bool(module and version)
        return self.found(
            facts,
            {"path": library.path, "version": version, "module": module, "sure": sure},
            where=where,
            certain=sure,
            fix=_without_compat(facts, place),
            evidence=(
                Evidence(f"{where}.cuda.init", codes.cuda(803)),
                Evidence(f"{where}.cuda.library", f"{library.path}, version {version or 'unknown'}"),
                Evidence("kernel.nvidia.version", module) if module else None,
                *_compat_on_path(where, place),
            ),
        )


class CompatOnGeForce(Rule, id="compat-on-geforce-804"):
    def look(self, facts: Facts) -> Finding | None:
        module = kernel_driver(facts)
        for where, place in places(facts):
            library = known(place.cuda.library)
            if library is None or known(place.cuda.init) != 804 or not is_compat(library.path):
                continue
            version, brand = known(library.version), brands(facts)
            if (module and version and not newer(version, module)) or (brand and not brand & _CONSUMER):
                continue
            return self._finding(facts, where, place, library)
        return None

    def _finding(self, facts: Facts, where: Where, place: Place, library: Library) -> Finding:
        module, version = kernel_driver(facts), known(library.version)
        sure = bool(module and version)
        return self.found(
            facts,
            {"path": library.path, "version": version, "module": module, "sure": sure},
            where=where,
            certain=sure,
            fix=self._fix(facts, place, version),
            evidence=(
                Evidence(f"{where}.cuda.init", codes.cuda(804)),
                Evidence(f"{where}.cuda.library", f"{library.path}, version {version or 'unknown'}"),
                Evidence("kernel.nvidia.version", module) if module else None,
                *(Evidence("nvml.devices", f"brand {name}") for name in sorted(brands(facts))),
                *_compat_on_path(where, place),
            ),
        )

    @staticmethod
    def _fix(facts: Facts, place: Place, version: str | None) -> tuple[Step, ...]:
        """Within one CUDA major version the host's own libcuda usually suffices: minor-version compatibility."""
        image = known(facts.image.cuda_version) or environment(facts).get("CUDA_VERSION")
        driver = _driver_cuda(facts)
        needed = f"{branch(version)} or newer" if version else "the version that the image's CUDA needs"
        newest = f" (this driver supports CUDA {driver})" if driver else ""
        steps = (
            Step(f"Update the host's driver to {needed}."),
            Step(f"Or use an image whose CUDA is not newer than the driver's{newest}.", instead=True),
        )
        if image and driver and version_numbers(image)[:1] == version_numbers(driver)[:1]:
            update = Step(f"Or update the host's driver to {needed}.", instead=True)
            return (*_without_compat(facts, place), update, steps[1])
        return steps


class CompatForOtherBranches(Rule, id="compat-not-for-this-driver"):
    def look(self, facts: Facts) -> Finding | None:
        module, brand = kernel_driver(facts), brands(facts)
        if module is None or not brand or brand & _CONSUMER:
            return None
        for where, place in places(facts):
            library = known(place.cuda.library)
            version = known(library.version) if library else None
            if known(place.cuda.init) != 804 or not library or not version or not is_compat(library.path):
                continue
            listed = self._listed(place, version)
            if newer(version, module) and branch(module) not in listed:
                return self._finding(facts, where, place, library, listed)
        return None

    @staticmethod
    def _listed(place: Place, version: str) -> tuple[str, ...]:
        """The driver branches that the library's own note lists."""
        folders = (known(one.driver_branches) for one in each(place.loader.compat) if known(one.version) == version)
        return next((branches for branches in folders if branches), ())

    def _finding(self, facts: Facts, where: Where, place: Place, library: Library, listed: tuple[str, ...]) -> Finding:
        module, version = kernel_driver(facts) or "", known(library.version)
        named = ", ".join(f"R{one}" for one in listed)
        return self.found(
            facts,
            {"path": library.path, "version": version, "named": named, "listed": listed, "module": module},
            where=where,
            certain=bool(listed),
            fix=(*_without_compat(facts, place), self._newer(facts, place, version or "", named)),
            evidence=(
                Evidence(f"{where}.cuda.init", codes.cuda(804)),
                Evidence(f"{where}.cuda.library", f"{library.path}, version {version}"),
                Evidence("kernel.nvidia.version", module),
                Evidence(f"{where}.loader.compat", named) if listed else None,
                *(Evidence("nvml.devices", f"brand {name}") for name in sorted(brands(facts))),
            ),
        )

    @staticmethod
    def _newer(facts: Facts, place: Place, version: str, named: str) -> Step:
        """Another driver, if one of this branch supports the GPUs; otherwise another image."""
        host, wanted = profile(facts, place), Driver.parse(version)
        if host and wanted and not advice.drives(host, wanted):
            cuda = _driver_cuda(facts)
            older = f"for CUDA {cuda} or older" if cuda else "for an older CUDA"
            return Step(f"Or use an image {older}: no newer driver branch supports this GPU.", instead=True)
        return Step(
            f"Or update the host's driver to a supported branch{f' ({named})' if named else ''}, or to "
            f"{branch(version)} or newer, which needs no cuda-compat.",
            instead=True,
        )


def _driver_cuda(facts: Facts) -> str | None:
    """The CUDA version that the host's driver reports, such as "12.2"."""
    version = known(facts.host.cuda.driver_version) or known(facts.host.nvml.cuda_driver_version)
    return f"{version // 1000}.{version % 1000 // 10}" if version else None


def _compat_on_path(where: Where, place: Place) -> tuple[Evidence | None, ...]:
    """What put the compat folder on the loader's path."""
    path = known(variable(place, "LD_LIBRARY_PATH")) or ""
    files = sorted(known(place.loader.conf) or {})
    named = [file for file in files if any("/compat" in folder for folder in (known(place.loader.conf) or {})[file])]
    return (
        Evidence(f"{where}.env.LD_LIBRARY_PATH", path) if "/compat" in path else None,
        *(Evidence(f"{where}.loader.conf", file) for file in named),
    )


def _without_compat(facts: Facts, place: Place) -> tuple[Step, ...]:
    path = known(variable(place, "LD_LIBRARY_PATH")) or ""
    kept = ":".join(part for part in path.split(":") if part and "/compat" not in part)
    option = f"-e LD_LIBRARY_PATH={quote(kept or '/usr/lib/x86_64-linux-gnu')}"
    return (
        Step(
            "Start the container without the compat folder:",
            (commands.docker_run(facts, commands.gpu_options(facts), option),),
        ),
        Step(
            "For good, remove the compat folder from the loader's path in the image "
            "(ENV LD_LIBRARY_PATH, /etc/ld.so.conf.d). The toolkit's enable-cuda-compat hook adds it if it helps."
        ),
    )
