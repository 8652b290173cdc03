"""CPU images lock PyTorch's CPU builds, from pages that offer these packages only."""

from pathlib import Path

import pytest

from mlship.cuda.fit.target import cpu_target, locked_cpu_pages
from mlship.lock.doubts import without_cpu_builds
from mlship.lock.gpu import can_reach
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from tests.helpers.lock_configs import config
from tests.helpers.pages import served_pages

PAGES = tuple(f"https://download.pytorch.org/whl/cpu/{name}/" for name in ("torch", "torchvision", "torchaudio"))


@pytest.mark.parametrize(
    ("line", "extra", "pages"),
    [
        ("torch==2.9.1", "", PAGES),
        ("torchvision", "", PAGES),
        ("openai-whisper  # import whisper", "", PAGES),
        ("torch", "gpu:\n", ()),
        ("torch", "platform: linux/arm64\n", ()),
        ("numpy", "", ()),
        ("torch; sys_platform == 'win32'", "", ()),
    ],
)
def test_pages_for_a_cpu_image_that_needs_torch(line: str, extra: str, pages: tuple[str, ...]) -> None:
    assert cpu_target(config(extra), [InputFile("requirements.in", f"{line}\n")]).pages == pages


def test_a_mirror_replaces_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSHIP_WHEEL_INDEX", "https://mirror/whl/")
    assert cpu_target(config(), [InputFile("r.in", "torch\n")]).pages[0] == "https://mirror/whl/cpu/torch/"


def test_the_build_uses_the_pages_of_what_is_locked_as_a_cpu_build() -> None:
    pins = [Pin("torch", "2.9.1+cpu", ()), Pin("torchvision", "0.24.1", ()), Pin("other", "1+cpu", ())]
    assert locked_cpu_pages(pins) == PAGES[:1]


def test_an_unreachable_index_is_said_if_torch_is_locked(tmp_path: Path) -> None:
    pins = [Pin("torch", "2.9.1", ())]
    (said,) = without_cpu_builds(pins, PAGES)
    assert "PyPI's torch 2.9.1 is locked, which requires CUDA" in said
    assert not list(without_cpu_builds(pins, ()))
    assert not list(without_cpu_builds([Pin("torch", "2.9.1+cpu", ())], PAGES))
    assert not can_reach(PipSettings(), ("http://127.0.0.1:9/cpu/torch/",))
    assert can_reach(PipSettings(), (tmp_path.as_uri(),))
    with served_pages({}) as (address, _):
        assert can_reach(PipSettings(), (f"{address}/cpu/torch/",))
