"""The largest layer of an image by its history, as the engine prints it."""

from pathlib import Path

import pytest

from mlship.build.report import LargestLayer, largest_added
from mlship.image.plan import BuildPlan
from mlship.versioned import adapter

PLAN = adapter(BuildPlan).validate_json((Path(__file__).parents[2] / "golden/digits-onnx/plan.json").read_text())
BASE = ("scripts/engine up", 40)
ONNX = ("COPY /layers/framework/onnxruntime/ / # buildkit", 59)
CODE = ("COPY /layers/code/ / # buildkit", 1)


@pytest.mark.parametrize(
    ("history", "largest"),
    [
        ((CODE, ONNX, BASE), LargestLayer("onnxruntime", 59, 0.983)),
        (((CODE[0], 100), BASE, ONNX), LargestLayer("the code", 100, 0.629)),
        ((BASE,), None),
        ((), None),
        (((CODE[0], 0),), None),
    ],
)
def test_the_largest_layer_is_named_by_its_packages(
    history: tuple[tuple[str, int], ...], largest: LargestLayer | None
) -> None:
    assert largest_added(PLAN, history) == largest
