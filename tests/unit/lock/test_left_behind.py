"""A requirement that other pins force far back is said."""

from mlship.lock.doubts import left_behind, warned_of
from mlship.lock.index import project_files
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from tests.helpers.lock_configs import config
from tests.helpers.pages import served_pages

NAMES = [f"fastapi-0.{minor}.0-py3-none-any.whl" for minor in range(120)] + ["fastapi-1.0rc1-py3-none-any.whl"]
PAGE = "".join(f'<a href="{name}">{name}</a>' for name in NAMES)
LATER = '<a href="fastapi-2.0-py3-none-any.whl" data-requires-python="&gt;=3.99">fastapi-2.0-py3-none-any.whl</a>'


def said(text: str, version: str) -> list[str]:
    with served_pages({"/simple/fastapi/": ("text/html", PAGE + LATER)}) as (address, _):
        settings = PipSettings(index_url=f"{address}/simple")
        pins = (Pin("fastapi", version, ()), Pin("pydantic", "2.0", ()))
        return list(
            left_behind(
                (InputFile("r.in", text),),
                pins,
                config('python: "3.11"\n'),
                project_files(settings, ["fastapi", "pydantic"]),
            )
        )


def test_a_version_far_behind_is_said_with_the_newest_that_is_allowed() -> None:
    (sentence,) = said("fastapi<0.115,>=0.1\npydantic==2.0\n", "0.2.0")
    assert sentence.startswith("fastapi 0.2.0 is locked, although `fastapi<0.115,>=0.1` allows 0.114.0")
    (sentence,) = said("FastAPI\n-c c.txt\n", "0.60.0")
    assert "allows 0.119.0" in sentence


def test_what_was_asked_for_is_not_said() -> None:
    assert said("fastapi==0.2.0\n", "0.2.0") == []
    assert said("fastapi\nfastapi<0.30\n", "0.20.0") == []
    assert said("fastapi\n", "0.100.0") == []
    assert said("pydantic==2.0\n", "0.2.0") == []


WARNED = """
  WARNING: Uvicorn 0.30.0 does not provide the extra 'standrad'
  WARNING: uvicorn 0.31.0 does not provide the extra 'old'
  WARNING: alpha 1.0 does not provide the extra 'x'
  WARNING: The candidate selected for download or install is a yanked version: 'Uvicorn' candidate (version 0.30.0 at https://h/u.whl (from https://h/simple/))
  Reason for being yanked: breaks {reload}\u0020
  WARNING: The candidate selected for download or install is a yanked version: 'alpha' candidate (version 1.0 at https://h/a.whl (from https://h/simple/))
  Reason for being yanked: <none given>
"""  # noqa: E501


def test_a_warning_of_pip_counts_only_for_the_version_that_is_locked() -> None:
    pins = [Pin("uvicorn", "0.30.0", ()), Pin("alpha", "2.0", ())]
    extra, yanked = warned_of([WARNED, WARNED], pins)
    assert extra.startswith("Uvicorn 0.30.0 has no extra `standrad`: ")
    assert yanked.startswith("Uvicorn 0.30.0 is yanked: its authors advise against it (breaks {reload}); ")
