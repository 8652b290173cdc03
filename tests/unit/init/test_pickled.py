"""What pickles name becomes requirements if it is known, and the scikit-learn that wrote one is said."""

import pickle
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

LOADER = "import pickle\nimport sklearn\ndef load(): ..."
PICKLE = b"".join(
    [
        b"\x80\x04clightgbm.sklearn\nLGBMClassifier\n0chelpers.features\nScale\n0cutils\nx\n0cstranger.of\nmine\n0",
        pickle.dumps({"_sklearn_version": "1.2.2"}, 4),
    ]
)


def test_known_packages_of_a_pickle_become_requirements(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"m.py": LOADER, "helpers/features.py": "", "m.pkl": PICKLE, "lightgbm.md": ""}
    found = detect(write(tmp_path, files))
    text = next(file.text for file in scaffold(found).files if file.path == "requirements.in")
    assert "lightgbm  # m.pkl imports it when it is loaded\n" in text
    assert "scikit-learn  # import sklearn\n" in text
    assert not [word for word in ("helpers", "utils", "stranger") if word in text]
    assert any("scikit-learn 1.2.2 wrote `m.pkl`" in note for note in found.notes)


def test_a_module_of_the_repository_is_no_requirement_of_a_pickle(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"m.py": LOADER, "old/lightgbm.py": "", "m.pkl": PICKLE}))
    assert "lightgbm" not in found.pickles[0].requirements


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("scikit-learn==1.2.2", False),
        ("scikit-learn==1.2.*", False),
        ("scikit-learn==1.4.0", True),
        ("scikit-learn", True),
    ],
)
def test_the_version_that_wrote_it_is_compared_with_the_requirements(tmp_path: Path, line: str, said: bool) -> None:
    notes = detect(write(tmp_path, {"m.py": LOADER, "m.pkl": PICKLE, "requirements.txt": f"{line}\n"})).notes
    assert any("wrote `m.pkl`" in note for note in notes) is said
    assert any("imports lightgbm, which `requirements.txt` does not name" in note for note in notes)
