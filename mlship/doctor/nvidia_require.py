"""NVIDIA_REQUIRE_*: what an image requires of the host, as NVIDIA's own evaluator reads it. Pure.

Spaces separate alternatives, one of which must hold. Commas separate the conditions of an alternative,
all of which must hold: "cuda>=12.4 brand=tesla,driver>=535,driver<536".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlship.cuda.versions import Cuda
from mlship.doctor.versions import version_numbers

_CONDITION = re.compile(r"(?i:(?P<name>cuda|driver|arch|brand))(?P<operator>>=|<=|!=|=|<|>)(?P<value>[^<>=!,\s]+)")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}


@dataclass(frozen=True)
class Condition:
    """One comparison, such as cuda>=12.4."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.value}"


@dataclass(frozen=True)
class Requirement:
    """One of the alternatives must hold. Without any, nothing is required."""

    alternatives: tuple[tuple[Condition, ...], ...]

    def __str__(self) -> str:
        return " ".join(",".join(map(str, alternative)) for alternative in self.alternatives)

    @property
    def cuda(self) -> Cuda | None:
        """The first CUDA version that it requires regardless of the GPU's brand; None if there is none."""
        for alternative in self.alternatives:
            for condition in alternative:
                if (condition.name, condition.operator) == ("cuda", ">=") and len(alternative) == 1:
                    major, minor, *_ = (*version_numbers(condition.value), 0)
                    return Cuda(major, minor)
        return None


@dataclass(frozen=True)
class Offer:
    """What a host offers with one of its GPUs; None means unknown.

    Attributes:
        cuda: the driver's CUDA version; with at_least, or newer.
        driver: such as "550.54.15".
        arch: the GPU's compute capability, such as "8.0".
        brand: as nvidia-smi prints it, such as "GeForce" or "Quadro RTX".
    """

    cuda: Cuda | None = None
    at_least: bool = False
    driver: str | None = None
    arch: str | None = None
    brand: str | None = None


def parse_require(text: str) -> Requirement:
    """Read a requirement.

    Raises:
        ValueError: NVIDIA's evaluator would reject it as an invalid expression.
    """
    alternatives = (part.split(",") for part in text.split(" ") if part)
    return Requirement(tuple(tuple(_condition(part) for part in one if part) for one in alternatives))


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a condition such as cuda>=12.4")
    name, operator, value = found["name"].lower(), found["operator"], found["value"]
    fits = operator in {"=", "!="} if name == "brand" else _NUMBER.fullmatch(value)
    if not fits:
        raise ValueError(f"{text!r} is an invalid comparison")
    return Condition(name, operator, value)


def holds(requirement: Requirement, offer: Offer) -> bool | None:
    """The host meets it; None if that depends on unknown values."""
    answers = [_all(_holds(condition, offer) for condition in one) for one in requirement.alternatives]
    if not answers or True in answers:
        return True
    return None if None in answers else False


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return False if False in found else (None if None in found else True)


def _holds(condition: Condition, offer: Offer) -> bool | None:
    if condition.name == "brand":
        wanted = condition.operator == "="
        return None if offer.brand is None else (_plain(offer.brand) == _plain(condition.value)) is wanted
    if condition.name == "cuda":
        return _cuda_holds(condition, offer)
    has = offer.driver if condition.name == "driver" else offer.arch
    if has is None or not _NUMBER.fullmatch(has):
        return None
    return _compare(has, condition)


def _plain(brand: str) -> str:
    """NVML's "Quadro RTX" is "quadrortx" in a requirement."""
    return re.sub(r"[^a-z0-9]", "", brand.lower())


def _cuda_holds(condition: Condition, offer: Offer) -> bool | None:
    """For a driver that offers "12.4 or newer", only an answer that a newer one cannot change is certain."""
    if offer.cuda is None:
        return None
    answer = _compare(str(offer.cuda), condition)
    if not offer.at_least:
        return answer
    ahead = Version(str(offer.cuda)) > Version(condition.value)
    grows = condition.operator in {">", ">="} or (condition.operator == "!=" and ahead)
    falls = condition.operator in {"<", "<="} or (condition.operator == "=" and ahead)
    if (answer and grows) or (not answer and falls):
        return answer
    return None


def _compare(has: str, condition: Condition) -> bool:
    """Missing numbers are 0: 470 is 470.0."""
    operator = "==" if condition.operator == "=" else condition.operator
    return SpecifierSet(f"{operator}{condition.value}").contains(has)


def requirements(env: Mapping[str, str]) -> tuple[str, ...]:
    """The requirements in an image's environment, each of which must hold.

    An older image, with CUDA_VERSION but without NVIDIA_REQUIRE_CUDA, requires its own CUDA version.
    """
    asked = tuple(env[name] for name in sorted(env) if name.startswith("NVIDIA_REQUIRE_"))
    version = version_numbers(env.get("CUDA_VERSION", ""))
    if not env.get("NVIDIA_REQUIRE_CUDA") and len(version) > 1:
        return (*asked, f"cuda>={version[0]}.{version[1]}")
    return asked


def is_disabled(env: Mapping[str, str]) -> bool:
    """NVIDIA_DISABLE_REQUIRE is set to a value that the toolkit accepts as true."""
    return env.get("NVIDIA_DISABLE_REQUIRE") in _TRUE
