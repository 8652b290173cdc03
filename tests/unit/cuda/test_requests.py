"""What a project asks for, read from its requirements as pip would read them for Linux."""

import pytest

from mlship.cuda.fit.choose import read_requests
from mlship.lock.inputs import InputFile


@pytest.mark.parametrize(
    ("lines", "asks"),
    [
        ("Torch>=2.6", ["torch>=2.6"]),
        ("onnxruntime_gpu[cudnn,cuda]", ["onnxruntime-gpu[cuda,cudnn]"]),
        ("torch>=2\ntorch<2.9  # and below", ["torch<2.9,>=2"]),
        ("jax\njax[cuda12]", ["jax[cuda12]"]),
        ('torch; sys_platform == "linux"\nnumpy; sys_platform == "win32"', ["torch"]),
        ('torch==2.6; python_version < "3.12"\ntorch==2.7; python_version >= "3.12"', ["torch==2.6"]),
        ('torch; extra == "gpu"', []),
        ("--index-url https://example.com/simple\n-r more.in\nnot a requirement !!\ntorch", ["torch"]),
        ("torch==2.6 --hash=sha256:00", ["torch==2.6"]),
        ("torch @ https://example.com/torch.whl", ["torch"]),
    ],
)
def test_requests(lines: str, asks: list[str]) -> None:
    assert [str(ask) for ask in read_requests((InputFile("requirements.in", lines),), "3.11")] == asks


def test_files_are_read_together_and_sorted_by_name() -> None:
    files = (InputFile("a.in", "torch\nscipy"), InputFile("b.in", "torch<3"))
    assert [str(ask) for ask in read_requests(files, "3.11")] == ["scipy", "torch<3"]
