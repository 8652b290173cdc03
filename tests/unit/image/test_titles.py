"""Steps are called by their titles; BuildKit's bookkeeping is marked as such."""

import pytest

from mlship.engine.base import BuildEvent, StepFinished, StepOutput, StepStarted
from mlship.image.titles import in_words, retitled

TITLES = {"builder": ("one", "two", "install 19 packages")}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("[builder 3/4] RUN --mount=type=cache uv", "builder: install 19 packages"),
        ("[builder  3/14] RUN --mount=type=cache uv", "builder: install 19 packages"),
        ("[builder 4/4] RUN other", "[builder 4/4] RUN other"),
        ("[linux/amd64 builder 3/4] RUN uv", "[linux/amd64 builder 3/4] RUN uv"),
        ("[runtime 3/5] LINK COPY --from=builder", "[internal] [runtime 3/5] LINK COPY --from=builder"),
        ("[builder 3/4] LINK COPY --from=source", "[internal] builder: install 19 packages, linked"),
        ("[uv 1/3] FROM python@sha256:1", "[internal] [uv 1/3] FROM python@sha256:1"),
        ("[context wheelhouse] load from client", "[internal] [context wheelhouse] load from client"),
        ("exporting to image", "exporting to image"),
    ],
)
def test_names_in_words(name: str, said: str) -> None:
    assert in_words(name, TITLES) == said


def test_only_names_change() -> None:
    heard: list[BuildEvent] = []
    watch = retitled(heard.append, TITLES)
    watch(StepStarted("1", "[builder 3/4] RUN x"))
    watch(StepOutput("1", "text"))
    watch(StepFinished("1", "[builder 3/4] RUN x", 2.0, cached=True))
    assert heard == [
        StepStarted("1", "builder: install 19 packages"),
        StepOutput("1", "text"),
        StepFinished("1", "builder: install 19 packages", 2.0, cached=True),
    ]
