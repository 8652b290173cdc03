"""Fetch magika's content-type classifier, 3.2 MB of ONNX, into weights/ of a model repository.

python fetch.py [REPO]
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from wheel_files import Member, Wheel, run  # noqa: E402

WHEEL = Wheel(
    requirement="magika==1.0.3",
    filename="magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl",
    sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    platform="manylinux_2_28_x86_64",
)
MEMBERS = (
    Member(
        source="magika/models/standard_v3_3/model.onnx",
        target="weights/model.onnx",
        sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    Member(
        source="magika/models/standard_v3_3/config.min.json",
        target="weights/config.json",
        sha256="ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    ),
)

if __name__ == "__main__":
    run(WHEEL, MEMBERS, HERE / "repo")
