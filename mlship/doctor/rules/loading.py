"""Rules about what the loader picks, or cannot load, in an image: link-time stubs and musl."""

from shlex import quote

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.finding import Evidence, Finding, Where
from mlship.doctor.queries import gpu_is_known_absent, node, places, variable
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import version_numbers
from mlship.driver import codes

_STUB, _STUBS = 34, "/stubs"
_LOCATES_MUSL = (1, 18, 2)


class StubLibcuda(Rule, id="stub-libcuda-on-path"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place in places(facts):
            library = known(place.cuda.library)
            if known(place.cuda.init) == _STUB:
                return self.found(
                    facts,
                    {
                        **self._path(place),
                        "no_gpu": is_absent(node(place, "/dev/nvidiactl")),
                        "path": library.path if library else "a stub",
                    },
                    where=where,
                    evidence=(
                        Evidence(f"{where}.cuda.init", codes.cuda(_STUB)),
                        Evidence(f"{where}.cuda.library", library.path) if library else None,
                        *self._named(where, place),
                    ),
                )
        return None

    @staticmethod
    def _path(place: Place) -> Values:
        """The loader's path without the stubs, for the texts."""
        path, conf = known(variable(place, "LD_LIBRARY_PATH")) or "", known(place.loader.conf) or {}
        files = sorted(file for file in conf if any(_STUBS in folder for folder in conf[file]))
        return {
            "delete": tuple(f"sed -i '\\|/stubs|d' {quote(file)}" for file in files),
            "shorten": _STUBS in path or not files,
            "kept": ":".join(part for part in path.split(":") if part and _STUBS not in part),
        }

    @staticmethod
    def _named(where: Where, place: Place) -> tuple[Evidence, ...]:
        """What put the stub's folder on the path, and the real library next to it."""
        path, conf = known(variable(place, "LD_LIBRARY_PATH")) or "", known(place.loader.conf) or {}
        real = [lib.path for lib in each(place.loader.libraries) if "libcuda" in lib.path and _STUBS not in lib.path]
        return (
            *((Evidence(f"{where}.env.LD_LIBRARY_PATH", path),) if _STUBS in path else ()),
            *(Evidence(f"{where}.loader.conf", file) for file in sorted(conf) if any(_STUBS in f for f in conf[file])),
            *(Evidence(f"{where}.loader.libraries", f"{file}: the driver's own") for file in real[:1]),
        )


class MuslImage(Rule, id="alpine-musl-no-driver-libs"):
    def look(self, facts: Facts) -> Finding | None:
        for named, libc in (("container", facts.container.libc), ("image", facts.image.libc)):
            musl = known(libc.family) == "musl" or (
                known(libc.musl_loader) is not None and is_absent(libc.glibc_loader)
            )
            if musl and not known(libc.glibc_loader) and self._wants_gpu(facts):
                return self.found(
                    facts,
                    {"old_toolkit": _old_toolkit(facts)},
                    where="container",
                    evidence=(
                        Evidence(f"{named}.libc", known(libc.musl_loader) or "musl"),
                        *self._mounted(facts),
                        *(Evidence("host.toolkit.version", version) for version in (_old_toolkit(facts),) if version),
                    ),
                )
        return None

    @staticmethod
    def _wants_gpu(facts: Facts) -> bool:
        """The GPU was requested but is missing, or the inside was not examined yet."""
        box = facts.container
        if gpu_is_known_absent(facts) or known(box.cuda.init) == 0 or known(box.nvml.init) == 0:
            return False
        asks = known(variable(box, "NVIDIA_VISIBLE_DEVICES")) or (known(facts.image.env) or {}).get(
            "NVIDIA_VISIBLE_DEVICES"
        )
        config = box.host_config
        asked = each(config.gpus) or each(config.cdi_devices) or known(config.runtime) == "nvidia"
        not_seen = not is_known(box.libc.family) and not is_known(box.libc.musl_loader)
        mounted = any(known(library.mounted) for library in each(box.loader.libraries))
        given = bool(asked) or mounted or asks not in {None, "", "none", "void"}
        return given or not_seen or is_absent(box.cuda.library)

    @staticmethod
    def _mounted(facts: Facts) -> tuple[Evidence, ...]:
        there = [lib.path for lib in each(facts.container.loader.libraries) if known(lib.mounted)]
        return tuple(Evidence("container.loader.libraries", f"{path}: mounted but not loadable") for path in there[:1])


def _old_toolkit(facts: Facts) -> str | None:
    version = known(facts.host.toolkit.version)
    return version if version and version_numbers(version) < _LOCATES_MUSL else None
