"""Rules about frameworks that do not find CUDA's libraries, or find the wrong ones."""

import re
from shlex import quote

from mlship.cuda.tables.lookup import wheel_index
from mlship.cuda.tables.rows import Variant
from mlship.cuda.versions import Cuda
from mlship.doctor.advice import brackets, without_or
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.frameworks import (
    as_cuda,
    brought,
    cuda_folders,
    environments,
    errors,
    foreign,
    image_with,
    installed,
    mismatched_plugin,
    profile,
    unopened,
    unresolved,
    variant_of,
    wanted,
    works_on_gpu,
)
from mlship.doctor.queries import places, variable
from mlship.doctor.rules.base import Rule

_JITLINK = re.compile(r"undefined symbol: (_*nvJitLink\w*)")
_AT_ODDS = re.compile(r"undefined symbol|Loaded runtime CuDNN library|version mismatch", re.IGNORECASE)
_TRITON = re.compile(r"libcuda\.so cannot found|cannot find -lcuda")
_OF_DRIVER = ("libcuda.so", "libnvidia-")  # no wheel brings these: they come from the host
_PATH = "LD_LIBRARY_PATH"
_FRAMEWORKS = ("torch", "onnxruntime", "tensorflow", "jax")


def _starts(place: Place) -> bool:
    return known(place.cuda.init) in {0, None}


def _fails(environment: PythonEnvironment) -> tuple[str, ...]:
    """Frameworks that report that they do not use the GPU."""
    return tuple(name for name in _FRAMEWORKS if works_on_gpu(environment, name) is False)


def _unset(where: Where, place: Place) -> Step:
    """Remove CUDA's folders; the driver's own folder stays, since some images need it."""
    folders = (known(variable(place, _PATH)) or "").split(":")
    kept = ":".join(item for item in folders if item and item not in cuda_folders(place))
    command = f"export {_PATH}={quote(kept)}" if kept else f"unset {_PATH}"
    rest = "in the image's ENV or where it is started" if where == "container" else "and from what sets it (~/.bashrc)"
    return Step(f"Remove CUDA's folders from {_PATH}, {rest}:", (command,))


class _Missing(Rule):
    """A framework whose CUDA libraries are not on the loader's path."""

    def _of(
        self, facts: Facts, place: Place, environment: PythonEnvironment, package: str, reported: tuple[str, ...]
    ) -> tuple[Variant | None, str | None, tuple[str, ...]]:
        """The table row of the installed release, its version, and the libraries that are not found."""
        here = installed(environment)
        variant = variant_of(package, here.get(package))
        asked = wanted(variant) if variant else ()
        messages = tuple(name for line in (*errors(environment), *each(facts.messages)) for name in unopened(line))
        fits = tuple(name for name in messages if name in asked or name.startswith(("libcu", "libnv")))
        named = tuple(name for name in reported or fits if not name.startswith(_OF_DRIVER))
        return variant, here.get(package), named or (() if reported or fits else unresolved(place, asked))

    @staticmethod
    def _install(
        facts: Facts, place: Place, package: str, version: str | None, variant: Variant | None, *then: Step
    ) -> tuple[Step, ...]:
        """Install the libraries as wheels, or use an image that has them."""
        extras = variant.extras if variant else ()
        band = f"=={version.partition('+')[0]}" if version else ""
        image = image_with(variant, profile(facts, place)) if variant else None
        wheels = Step(
            "Install CUDA's libraries with it:", (f"pip install {quote(f'{package}{brackets(extras)}{band}')}",)
        )
        base = Step(f"Or use a base image that has them, such as {image}.", instead=True) if image else None
        base = without_or(base) if base and not extras else base
        return tuple(step for step in (*((wheels, *then) if extras else ()), base) if step) or (
            Step("Install the CUDA and cuDNN versions that this release needs on the loader's path."),
        )


class OnnxRuntimeLibraries(_Missing, id="ort-cudnn9-missing"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            onnx = known(environment.onnxruntime)
            here = installed(environment)
            built_in = onnx is not None and "CUDAExecutionProvider" in each(onnx.available_providers)
            if onnx is None or works_on_gpu(environment, "onnxruntime") is not False or not _starts(place):
                continue
            reported = self._of(facts, place, environment, "onnxruntime-gpu", each(onnx.missing_libraries))
            if (built_in or "onnxruntime-gpu" in here) and reported[2]:
                return self._finding(facts, where, place, environment, reported)
        return None

    def _finding(
        self,
        facts: Facts,
        where: Where,
        place: Place,
        environment: PythonEnvironment,
        reported: tuple[Variant | None, str | None, tuple[str, ...]],
    ) -> Finding:
        variant, version, missing = reported
        own = brought(environment)
        lies = sorted({own[name] for name in missing if name in own})
        load = Step(
            "In the Python program, load the libraries of the installed wheels before the first session:",
            ("import onnxruntime; onnxruntime.preload_dlls()",),
        )
        after = Step("Then load them in the Python program, before the first session:", load.commands)
        return self.found(
            facts,
            {"missing": ", ".join(missing)},
            where=where,
            fix=(load,)
            if len(lies) == len(missing)
            else self._install(facts, place, "onnxruntime-gpu", version, variant, after),
            evidence=(
                Evidence(f"{where}.pythons.onnxruntime.missing_libraries", ", ".join(missing)),
                Evidence(f"{where}.pythons.onnxruntime.session_providers", "CPUExecutionProvider"),
                *(Evidence(f"{where}.pythons.distributions", f"{name}, not on the loader's path") for name in lies),
            ),
        )


class TensorFlowLibraries(_Missing, id="tf-cannot-dlopen"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            flow = known(environment.tensorflow)
            if flow is None or known(flow.gpus) != 0 or is_absent(flow.cuda_version) or not _starts(place):
                continue
            variant, version, missing = self._of(facts, place, environment, "tensorflow", each(flow.missing_libraries))
            version = version or known(flow.version)
            silent = not each(flow.missing_libraries)
            bare = not missing and silent and self._is_bare(place, environment, variant)
            if not missing and not bare:
                continue
            named = ", ".join(missing) if missing else "CUDA's libraries"
            return self.found(
                facts,
                {"version": version or "", "named": named},
                where=where,
                certain=not bare,
                fix=self._install(facts, place, "tensorflow", version, variant or variant_of("tensorflow", version)),
                evidence=(
                    Evidence(f"{where}.pythons.tensorflow.gpus", "0"),
                    Evidence(f"{where}.pythons.tensorflow.missing_libraries", named) if missing else None,
                    Evidence(f"{where}.pythons.distributions", "no nvidia-* wheels") if bare else None,
                ),
            )
        return None

    @staticmethod
    def _is_bare(place: Place, environment: PythonEnvironment, variant: Variant | None) -> bool:
        """No wheel contains CUDA's libraries, and the loader's cache does not list them."""
        cache = known(place.loader.cache)
        listed = known(environment.distributions) is not None and "tensorflow" in installed(environment)
        missing = cache is None or (variant is not None and not set(wanted(variant)) & set(cache))
        return listed and missing and not brought(environment) and not cuda_folders(place)


class ShadowedWheels(Rule, id="ld-library-path-shadows-wheel-libs"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            failing, folders = _fails(environment), cuda_folders(place)
            if not failing or not folders or not _starts(place):
                continue
            loaded = foreign(place, environment)
            if loaded or self._is_likely(facts, environment):
                return self._finding(facts, where, place, loaded)
        return None

    @staticmethod
    def _is_likely(facts: Facts, environment: PythonEnvironment) -> bool:
        """The loaded files are unknown, but jax has its plugin, or the messages mention two versions."""
        if known(environment.loaded) is not None or not brought(environment):
            return False
        messages = (*errors(environment), *each(facts.messages))
        plugin = any(name.startswith("jax-cuda") for name in installed(environment))
        jax = known(environment.jax)
        on_cpu = jax is not None and known(jax.backend) == "cpu"
        return any(_AT_ODDS.search(line) for line in messages) or (
            plugin and on_cpu and not mismatched_plugin(environment)
        )

    def _finding(self, facts: Facts, where: Where, place: Place, loaded: dict[str, str]) -> Finding:
        path = known(variable(place, _PATH)) or ""
        shown = ", ".join(sorted(loaded.values())[:3])
        return self.found(
            facts,
            {"shown": shown or "another CUDA"},
            where=where,
            certain=bool(loaded),
            fix=(_unset(where, place),),
            evidence=(
                Evidence(f"{where}.env.{_PATH}", path),
                *(Evidence(f"{where}.pythons.loaded", f"{name}: {file}") for name, file in list(loaded.items())[:4]),
            ),
        )


def _jitlink(facts: Facts) -> tuple[Where, Place, PythonEnvironment, str] | None:
    """The place, and the symbol that libcusparse did not find in the loaded nvJitLink."""
    for where, place, environment in environments(facts):
        for line in (*errors(environment), *each(facts.messages)):
            if found := _JITLINK.search(line):
                return where, place, environment, found[1]
    return None


def _torch_again(environment: PythonEnvironment) -> tuple[str, ...]:
    """Reinstall the same version of the same build: a newer one may need another CUDA."""
    version, _, variant = installed(environment).get("torch", "").partition("+")
    if not version or not variant.startswith("cu"):
        return ()
    return (
        f"pip install --force-reinstall {quote(f'torch=={version}')} --index-url {wheel_index().of(quote(variant))}",
    )


class JitLinkConflict(Rule, id="nvjitlink-symbol-conflict"):
    def look(self, facts: Facts) -> Finding | None:
        found = _jitlink(facts)
        if found is None:
            return None
        where, place, environment, symbol = found
        loaded = {n: p for n, p in (known(environment.loaded) or {}).items() if n.startswith("libnvJitLink")}
        folders, wheel = cuda_folders(place), self._old_wheel(environment, symbol)
        raised = any(_JITLINK.search(line) for line in errors(environment))
        source = next(iter(loaded.values()), None) or (folders[0] if folders else wheel) or "another CUDA"
        sure = raised or bool(folders or wheel)
        again = Step(
            "Or reinstall torch and its libraries from the index that it came from:",
            _torch_again(environment),
            instead=True,
        )
        return self.found(
            facts,
            {"symbol": symbol, "source": source},
            where=where,
            certain=sure,
            fix=(_unset(where, place), again) if folders else (without_or(again),),
            evidence=(
                Evidence(f"{where}.pythons.error", f"undefined symbol: {symbol}"),
                Evidence(f"{where}.env.{_PATH}", known(variable(place, _PATH)) or "") if folders else None,
                *(Evidence(f"{where}.pythons.loaded", f"{name}: {path}") for name, path in sorted(loaded.items())),
                Evidence(f"{where}.pythons.distributions", wheel) if wheel else None,
            ),
        )

    @staticmethod
    def _old_wheel(environment: PythonEnvironment, symbol: str) -> str | None:
        """The distribution that is older than the symbol: __nvJitLinkComplete_12_4 needs CUDA 12.4."""
        asked = re.search(r"_(\d+)_(\d+)$", symbol)
        for name, version in sorted(installed(environment).items()):
            cuda = as_cuda(version)
            if asked and cuda and name.startswith("nvidia-nvjitlink") and cuda < Cuda(int(asked[1]), int(asked[2])):
                return f"{name} {version}"
        return None


class TritonLibcuda(Rule, id="triton-libcuda-so-cannot-found"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            triton = known(environment.triton)
            error = known(triton.error) if triton else None
            line = next((text for text in (error, *each(facts.messages)) if text and _TRITON.search(text)), None)
            there = triton is not None or "triton" in installed(environment)
            if line is None or not there or known(place.cuda.init) != 0 or (triton and is_absent(triton.error)):
                continue
            names = self._cached(place)
            if names is not None and "libcuda.so" in names and "libcuda.so.1" in names:
                continue
            return self._finding(facts, where, line, names, measured=bool(error) or names is not None)
        return None

    @staticmethod
    def _cached(place: Place) -> list[str] | None:
        """Names of libcuda in the loader's cache; None if it was not examined."""
        cache = known(place.loader.cache)
        return None if cache is None else sorted(name for name in cache if name.startswith("libcuda.so"))

    def _finding(self, facts: Facts, where: Where, line: str, names: list[str] | None, *, measured: bool) -> Finding:
        library = known(dict(places(facts))[where].cuda.library)
        folder = quote(library.path.rpartition("/")[0]) if library else "/usr/local/nvidia/lib64"
        linked = bool(names and "libcuda.so.1" in names)
        return self.found(
            facts,
            {"linked": linked, "folder": folder},
            where=where,
            certain=measured,
            evidence=(
                Evidence(f"{where}.pythons.triton.error", line.strip()),
                Evidence(f"{where}.cuda.library", library.path) if library else None,
                Evidence(f"{where}.loader.cache", ", ".join(names) or "no libcuda") if names is not None else None,
            ),
        )
