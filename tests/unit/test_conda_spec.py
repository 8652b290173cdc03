"""Every form in which conda writes a package."""

import pytest

from mlship.conda_spec import conda_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("PyTorch", ("pytorch", "")),
        (" numpy=1.26 ", ("numpy", "=1.26")),
        ("numpy >=1.2,<2", ("numpy", ">=1.2,<2")),
        ("numpy 1.26 py311_0", ("numpy", "1.26 py311_0")),
        ("pytorch::pytorch=2.5.1=py3.11_cuda12.4_0", ("pytorch", "=2.5.1=py3.11_cuda12.4_0")),
        ("nvidia/label/cuda-11.8.0::cuda-toolkit==11.8.*", ("cuda-toolkit", "==11.8.*")),
        ("numpy [version='>=1.2']", ("numpy", "")),
        ("@x", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_name_and_what_follows_it(text: str, spec: tuple[str, str]) -> None:
    assert conda_spec(text) == spec
