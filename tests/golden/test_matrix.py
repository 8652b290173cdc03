"""docs/matrix.md: which releases run on which hosts, by the tables and the match; `make golden` updates it."""

from pathlib import Path

import pytest

from mlship.cuda.fit.judge import ReasonKind
from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from tests.helpers.cuda_cases import TABLE, fleet, pin

PAGE = Path(__file__).parents[2] / "docs/matrix.md"
LOCKS = (
    *("t201", "t231", "t251", "t260", "t271", "t280", "t2100", "t2110", "t2141", "t2141-cu126", "t2150"),
    *("ort1192", "ort1220-cuda", "ort1260-cuda", "ort1311-cuda", "tf2151", "tf2210", "jax-cuda12", "jax-cuda13"),
    *("cupy12", "cupy13", "vllm0110", "vllm0330", "trt1140"),
)
HOSTS = (
    *("k80-470", "gtx1080ti-535", "gtx1080ti-580", "v100-535", "v100-580", "v100-590", "t4-470", "t4-535", "t4-580"),
    *("a100-470", "a100-535", "a100-550", "a100-580", "l4-535", "l4-565", "h100-535", "h100-550", "h100-580"),
    *("b200-570", "b200-580", "rtx5090-570", "rtx5090-580"),
)
WORDS: dict[ReasonKind, str] = {
    "driver-floor": "driver",
    "forward-compat-possible": "driver",
    "driver-lacks-gpu": "gpu",
    "arch-dropped": "code",
    "arch-too-new": "code",
    "ptx-jit": "code",
}
HEAD = """# What runs where

Generated from mlship's tables by its match, as for `mlship build` and `mlship fits`; a test keeps it up to date.
A host is a GPU and a driver branch: `t4-535` is a Tesla T4 with driver 535.
Nothing was run on these hosts for this page.

- ✓ runs; ✓m runs through minor-version compatibility: the driver's CUDA is older than the package's
- ✗ driver: the driver is too old
- ✗ gpu: the driver does not support the GPU
- ✗ code: the package has no code for the GPU
- ? not known

| package | {hosts} |
| --- | {rule} |
"""


def cell(match: Match) -> str:
    kinds = [reason.kind for verdict in match.verdicts for reason in verdict.reasons]
    if match.outcome == "runs":
        return "✓m" if "minor-version" in kinds else "✓"
    if match.outcome == "unknown":
        return "?"
    words = {WORDS[kind] for kind in kinds if kind in WORDS}
    assert words, (kinds, match.needs.problems, match.missing)
    return f"✗ {next(word for word in ('gpu', 'driver', 'code') if word in words)}"


def page() -> str:
    rows = [HEAD.format(hosts=" | ".join(HOSTS), rule=" | ".join("---" for _ in HOSTS))]
    for name in LOCKS:
        lock = TABLE.locks[name]
        needs = read_needs(tuple(pin(text) for text in lock.pins), lock.platform, gpu=True)
        cells = [cell(match_needs(needs, fleet((host,)), "bookworm")) for host in HOSTS]
        builds = [stack.name.rpartition(" (")[2] for stack in needs.stacks if stack.name.endswith(")")]
        label = f"{lock.pins[0].replace('==', ' ')} ({builds[0]}"
        rows.append(f"| {label} | {' | '.join(cells)} |\n")
    return "".join(rows)


def test_the_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make golden` and read the diff"
