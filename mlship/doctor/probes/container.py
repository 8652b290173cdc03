"""The container or the image in question: what the engine reports, and what is seen inside."""

import re
import time
from dataclasses import dataclass, field, replace

from mlship import plain
from mlship.doctor.facts.container import Container, Image, Injection
from mlship.doctor.facts.fact import UNKNOWN, Fact, each, is_absent, known
from mlship.doctor.facts.facts import Facts, merged
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.probes.base import INSIDE_SECONDS, Look, Probe
from mlship.doctor.probes.files import below
from mlship.doctor.probes.inspected import container_of, image_of
from mlship.doctor.probes.look_inside import Seen, look_inside
from mlship.doctor.versions import version_numbers
from mlship.engine import connect_to_container
from mlship.engine.look import EngineLook, Ran, Trial

_LEAST_SECONDS = 1.5
_SPARE_SECONDS = 0.7  # to report
_CPU: tuple[str, ...] = ()
# As in mlship.engine.sdk: first the mode that asks the host, then CDI, whose file may describe another driver.
_GPUS = (("--gpus", "all"), ("--device", "nvidia.com/gpu=all"))
_TEGRA = ("--runtime", "nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=all")
_LACKS = re.compile(
    r"could not select device driver|unresolvable CDI devices|unknown or invalid runtime name"
    r"|invoking the NVIDIA Container Runtime Hook directly"
)
_NO_PROGRAM = re.compile(r"executable file not found|exec: \"[^\"]+\": ")
_NOT_THE_IMAGES = re.compile(r"/(?:compat|stubs)\w*/")
_FIRST_GPUS_BY_CDI = (29, 2)


def read_container(look: Look, engine: EngineLook | None = None) -> Facts:
    until = time.monotonic() + look.seconds - _SPARE_SECONDS
    if look.container is None:
        return Facts()
    engine = engine or connect_to_container(look.container)
    answer = engine.container(look.container)
    if answer.lack:
        return Facts()
    box = container_of(answer.found)
    box = box if answer.client == "docker" else replace(box, engine=answer.client)
    image = _image_of_container(engine, answer.found)
    error = known(box.error)
    left = max(_LEAST_SECONDS, until - time.monotonic())
    seen = look_inside(engine, look.container, left) if box.status == "running" else Seen(Place())
    box = replace(with_place(box, seen.place), platform=image_platform(image))
    return _facts(seen, replace(box, injection=injection_of(engine, box)), image, error)


def _image_of_container(engine: EngineLook, container: object) -> Image:
    """The container's image; its tag may point to another image by now."""
    reference = plain.text(container, "Config", "Image") or ""
    answer = engine.image(plain.text(container, "Image") or reference)
    return Image(reference=reference) if answer.lack else image_of(answer.found, reference)


@dataclass(frozen=True)
class _Tried:
    """How a trial went; `error` is the engine's, if it started no container with a GPU."""

    seen: Seen
    error: str | None
    injection: Fact[Injection]


def image_probe(engine: EngineLook) -> Probe:
    trials = ImageTrials(engine)
    return Probe("image", INSIDE_SECONDS, trials.read, inside=True, clean_up=trials.clean_up)


@dataclass(frozen=True)
class ImageTrials:
    """An image, through a short-lived container: with the GPU if the engine can provide one."""

    engine: EngineLook
    trials: list[str] = field(default_factory=list)

    def clean_up(self) -> None:
        """Remove containers again that an abandoned thread may have started: the engine may have been late."""
        while self.trials:
            self.engine.remove(self.trials.pop())

    def read(self, look: Look) -> Facts:
        until = time.monotonic() + look.seconds - _SPARE_SECONDS
        if look.image is None:
            return Facts()
        answer = self.engine.image(look.image)
        if answer.lack:
            return _gone(self.engine, look.image)
        image = image_of(answer.found, look.image)
        tried = self._tried(look.image, until, tegra=below(look.root, "/etc/nv_tegra_release").exists())
        box = Container(
            engine="docker",
            platform=image_platform(image),
            status="running" if tried.error is None else "created",
            error=tried.error,
            injection=tried.injection,
        )
        return _facts(tried.seen, box if tried.error else with_place(box, tried.seen.place), image, tried.error)

    def _tried(self, image: str, until: float, *, tegra: bool) -> _Tried:
        """With a GPU; if the engine refuses, without one, to look at the image's files at least."""
        error = None
        for options in (_TEGRA,) if tegra else _GPUS:
            seen, said = self._trial(image, options, until)
            if said is None:
                return _Tried(seen, None, "cdi" if options[0] == "--device" else UNKNOWN)
            # A second refusal for lack of CDI devices adds nothing.
            error = said if error is None or not _LACKS.search(said) else error
            if not _LACKS.search(said):
                break
        seen, _ = self._trial(image, _CPU, until)
        return _Tried(seen, error, UNKNOWN)

    def _trial(self, image: str, options: tuple[str, ...], until: float) -> tuple[Seen, str | None]:
        """What is seen inside before `until`, or the engine's message."""
        said = "the image has neither a shell nor Python to run"
        for command in _idle(until - time.monotonic()):
            left = max(_LEAST_SECONDS, until - time.monotonic())
            trial = Trial(image, command, options, left)
            self.trials.append(trial.name)
            try:
                started = self.engine.start(trial)
                if started.code == 0:
                    left = max(_LEAST_SECONDS, until - time.monotonic())
                    return look_inside(self.engine, trial.name, left), None
            finally:
                self.engine.remove(trial.name)
            said = refusal(started)
            if not _NO_PROGRAM.search(said):
                break
        return Seen(Place()), said


def _facts(seen: Seen, box: Container, image: Image, error: str | None) -> Facts:
    return Facts(
        simulated=True if seen.simulated else UNKNOWN,
        container=box,
        image=with_files(image, seen.place),
        messages=(error,) if error else UNKNOWN,
    )


def _gone(engine: EngineLook, reference: str) -> Facts:
    """An image that is not local: whether its registry has it."""
    image = Image(reference=reference)
    answer = engine.registry(reference)
    if answer.lack != "not there":
        return Facts(image=image)
    return Facts(image=replace(image, registry_status=404, error=answer.said), messages=(answer.said,))


def _idle(seconds: float) -> tuple[tuple[str, ...], ...]:
    """Programs that wait a little longer than that: a leftover container ends by itself."""
    life = int(max(0.0, seconds)) + 5
    wait = f"import time; time.sleep({life})"
    return (("sh", "-c", f"sleep {life}"), ("python3", "-c", wait), ("python", "-c", wait))


def refusal(ran: Ran) -> str:
    """The engine's message, without the client's additions."""
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip() and "docker run --help" not in line]
    text = " ".join(lines) or "the engine did not answer in time"
    return text.removeprefix("docker: ").removeprefix("Error response from daemon: ")[:600]


def with_place(box: Container, place: Place) -> Container:
    """A container, with what was seen inside."""
    return merged(box, place.as_kind(Container))


def with_files(image: Image, place: Place) -> Image:
    """An image, with those files of a container that no mount put there."""
    return replace(
        image,
        os=place.os,
        libc=place.libc,
        loader=replace(place.loader, cache=UNKNOWN, resolves=UNKNOWN, libraries=UNKNOWN),
        driver_libraries=driver_libraries(place),
        pythons=place.pythons,
    )


def driver_libraries(place: Place) -> Fact[tuple[Library, ...]]:
    """Libcuda and libnvidia-ml that are files of the image; compat and stub folders are reported elsewhere."""
    libraries = known(place.loader.libraries)
    if libraries is None:
        return UNKNOWN
    return tuple(one for one in libraries if known(one.mounted) is False and not _NOT_THE_IMAGES.search(one.path))


def image_platform(image: Image) -> Fact[str]:
    architecture = known(image.architecture)
    return f"linux/{architecture}" if architecture else UNKNOWN


def injection_of(engine: EngineLook, box: Container) -> Fact[Injection]:
    """How the container got the GPU; unknown if that cannot be determined."""
    config = box.host_config
    if each(config.cdi_devices):
        return "cdi"
    if each(config.gpus):
        if known(box.engine) != "docker":
            return UNKNOWN
        version = plain.text(engine.about().found, "ServerVersion") or ""
        return "legacy" if version_numbers(version) and version_numbers(version) < _FIRST_GPUS_BY_CDI else UNKNOWN
    ordinary = known(config.runtime) in {"runc", "crun", "io.containerd.runc.v2"}
    nodes = known(box.device_nodes) or {}
    nothing = bool(nodes) and all(is_absent(node) for node in nodes.values())
    return "none" if ordinary and nothing and not each(config.devices) else UNKNOWN
