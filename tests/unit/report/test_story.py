"""The page of an image's story: complete, alone in one file, and safe with hostile values."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlship.cli.app import app
from mlship.proof.statement import CheckResult, Details, Predicate
from mlship.proof.story import Story
from mlship.report.story import story_page
from mlship.smoke.result import Figures

HOSTILE = '<script>alert(1)</script><img src=x onerror="a()">\'"&\x1b[31m\u202e'
HASH = "a" * 64
DETAILS = Details(
    "0.1.0", "28", "gpu", ("NVIDIA L4",), "580.1", "sha256:1", "2026-11-28T06:00:00Z",
    (CheckResult("model.load", "pass", "1 s"),), Figures(),
)  # fmt: skip
PROOF = Predicate("PASSED", (), ("model.load",), (), (), DETAILS)
STORY = Story(
    image=f"registry.example.com/team/model@sha256:{HASH}",
    platform="linux/amd64",
    layers=(30_000_000, 60_000_000),
    labels={"org.opencontainers.image.revision": "c" * 40, "dev.mlship.lock": f"sha256:{HASH}"},
    proofs=(PROOF,),
    contents={"library": ("numpy 2.0", "libc6 2.36"), "machine-learning-model": ("model.onnx sha256:1",)},
    training={"metrics": {"accuracy": 0.9}},
    provenance={"buildDefinition": {"resolvedDependencies": [{"name": "mlship.yaml", "digest": {"sha256": HASH}}]}},
)


class Parts(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(story: Story) -> Story:
    details = replace(DETAILS, gpus=(HOSTILE,), driver=HOSTILE, version=HOSTILE)
    return replace(
        story,
        image=f"{HOSTILE}@{HOSTILE}",
        platform=HOSTILE,
        labels=dict.fromkeys(story.labels, HOSTILE),
        proofs=(replace(PROOF, warnedTests=(HOSTILE,), mlship=details),),
        contents={"library": (HOSTILE, HOSTILE), HOSTILE: (HOSTILE,)},
        training={HOSTILE: HOSTILE},
        provenance={"buildDefinition": {"resolvedDependencies": [{"name": HOSTILE, "digest": {HOSTILE: HOSTILE}}]}},
    )


def test_the_page_has_the_whole_story() -> None:
    text = Parts(story_page(STORY)).text
    for words in (
        "2layers",
        "67%",
        "NVIDIA L4",
        "580.1",
        "numpy 2.0",
        "mlship.yaml",
        f"sha256:{HASH}",
        '"accuracy": 0.9',
    ):
        assert words in text.replace("\n", ""), words


def test_the_page_says_what_is_not_attached() -> None:
    empty = replace(STORY, layers=(), labels={}, proofs=(), contents={}, training={}, provenance={})
    text = Parts(story_page(empty)).text
    for words in ("No proof is attached", "No provenance is attached", "No bill of materials is attached", "unknown"):
        assert words in text, words


def test_the_page_needs_nothing_else() -> None:
    page = story_page(STORY)
    found = Parts(page)
    assert not found.tags & {"script", "img", "link", "iframe", "object"}
    assert not found.attributes & {"src", "href", "style", "onclick", "onerror"}
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_hostile_values_are_neither_markup_nor_obeyed() -> None:
    plain, bad = story_page(STORY), story_page(hostile(STORY))
    assert (Parts(bad).tags, Parts(bad).attributes) == (Parts(plain).tags, Parts(plain).attributes)
    assert "&lt;script&gt;alert(1)" in bad
    assert all(character.isprintable() for character in bad.replace("\n", ""))


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlship.proof.story.read_story", lambda _image: STORY)
    page = tmp_path / "story.html"
    runner = CliRunner()
    assert runner.invoke(app, ["inspect", "model:1", "--html", str(page)]).exit_code == 0
    assert page.read_text() == story_page(STORY)
    again = runner.invoke(app, ["inspect", "model:1", "--html", str(page)])
    assert (again.exit_code, page.read_text()) == (2, story_page(STORY))
