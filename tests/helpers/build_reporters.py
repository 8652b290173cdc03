"""A recording reporter, and the image that it reports."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlship.engine.base import BuildWatcher, ImageInfo

IMAGE = ImageInfo(f"sha256:{'7' * 64}", 1000, "linux/amd64", "1001:1001", "/app", ("python",), {}, {}, layers=7)


@dataclass
class Silent:
    """A reporter that records its calls."""

    steps: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def step(self, text: str) -> None:
        self.steps.append(text)

    @contextlib.contextmanager
    def building(self) -> Iterator[BuildWatcher]:
        yield lambda _event: None
