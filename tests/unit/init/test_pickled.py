"""What pickles name becomes requirements if it is known, and the scikit-learn that wrote one is said."""

import pickle
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.model_files import skops
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
    assert "scikit-learn==1.2.2  # import sklearn\n" in text
    assert "numpy<2  # scikit-learn 1.2.2 does not support numpy 2\n" in text
    assert not [word for word in ("helpers", "utils", "stranger") if word in text]


def test_a_module_of_the_repository_is_no_requirement_of_a_pickle(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"m.py": LOADER, "old/lightgbm.py": "", "m.pkl": PICKLE}))
    assert "lightgbm" not in found.pickles[0].requirements


def test_a_skops_file_names_its_packages(tmp_path: Path) -> None:
    found = detect(write(tmp_path, {"m.py": LOADER, "m.skops": skops("lightgbm.sklearn.LGBMClassifier")}))
    assert found.pickles[0].requirements == ("lightgbm", "numpy", "scikit-learn")


PINNED = "scikit-learn==1.2.2  # it wrote m.pkl"


@pytest.mark.parametrize(
    ("lines", "python", "written", "advice"),
    [
        ("scikit-learn==1.2.2", "3.11", False, None),
        ("scikit-learn==1.2.*", "3.11", False, None),
        ("scikit-learn==1.4.0", "3.11", False, "require `scikit-learn==1.2.2`, or write it again"),
        ("scikit-learn", "3.11", True, None),
        ("pandas", "3.11", True, None),
        ("scikit-learn", "3.13", False, "that version has no wheel for Python 3.13, so write it again"),
    ],
)
def test_the_version_that_wrote_it_is_required_or_compared(
    tmp_path: Path, lines: str, python: str, *, written: bool, advice: str | None
) -> None:
    files: dict[str, str | bytes] = {"m.py": LOADER, "m.pkl": PICKLE, "requirements.txt": f"{lines}\n"}
    planned = scaffold(detect(write(tmp_path, {**files, ".python-version": python})))
    text = next(file.text for file in planned.files if file.path == "serving/requirements.in")
    assert (PINNED in text) is written
    assert "lightgbm  # m.pkl imports it when it is loaded" in text
    notes = [note for note in planned.notes if "wrote `m.pkl`" in note]
    assert len(notes) == (advice is not None)
    assert not advice or advice in notes[0]
