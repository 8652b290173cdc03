"""Version numbers of CUDA, of NVIDIA drivers and of GPUs, each as a value that sorts as its numbers do."""

import re
from collections.abc import Collection
from typing import Literal, NamedTuple, Self, TypeAlias

_TWO = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}", re.ASCII)
_KINDS = {"Cuda": "a CUDA version such as 12.6", "Capability": "a compute capability such as 8.0"}
_DRIVER = re.compile(r"[0-9]{3,5}\.[0-9]{1,4}(\.[0-9]{1,4})?", re.ASCII)
_DRIVER_IN = re.compile(r"(?<![0-9.])[0-9]{3,5}\.[0-9]{1,4}(\.[0-9]{1,4})?(?![0-9.])", re.ASCII)

# How CUDA's libraries reach an image: locked wheels bring them, or they are copied from NVIDIA's image.
CudaSource: TypeAlias = Literal["wheels", "image"]


class _TwoNumbers(NamedTuple):
    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "12.6".

        Raises:
            ValueError: it is anything else, "12.6.3" and "sm_80" included.
        """
        if not _TWO.fullmatch(text):
            raise ValueError(f"{text!r} is not {_KINDS[cls.__name__]}")
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Cuda(_TwoNumbers):
    """A CUDA version, such as 12.6."""

    __slots__ = ()


class Capability(_TwoNumbers):
    """A compute capability, such as 8.0: what code a GPU can run."""

    __slots__ = ()

    def runs(self, cubins: Collection[tuple[int, int]], *, apart: bool) -> bool | None:
        """Whether it runs machine code for any of these: its own major, and no newer minor. None: no document says.

        Args:
            apart: see `Architecture`.
        """
        older = any(major == self.major and minor <= self.minor for major, minor in cubins)
        return None if older and apart and self not in cubins else older


class Driver(NamedTuple):
    """A driver version; the patch is 0 where NVIDIA gives none ("570.26")."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> "Driver | None":
        """Read a plain version such as "550.54.15" or "570.26"; None for anything else, such as "550.54.15-grid"."""
        return cls(*(int(part) for part in text.split("."))) if _DRIVER.fullmatch(text) else None

    @property
    def branch(self) -> int:
        """The driver branch: NVIDIA calls 550.54.15 a driver of R550."""
        return self.major

    def __str__(self) -> str:
        """As NVIDIA writes it: two digits at least behind each dot."""
        patch = f".{self.patch:02}" if self.patch else ""
        return f"{self.major}.{self.minor:02}{patch}"


def driver_in(text: str) -> tuple[Driver | None, str]:
    """The plain driver version inside a text, and what is left when it is taken out.

    "550.54.15-grid" gives the driver and "-grid": the caller says that a suffix was passed over. None with the whole
    text where there is no version, or more than one.
    """
    found = list(_DRIVER_IN.finditer(text))
    if len(found) != 1:
        return None, text
    return Driver.parse(found[0].group()), text[: found[0].start()] + text[found[0].end() :]
