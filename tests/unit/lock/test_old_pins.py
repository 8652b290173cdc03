"""All pins that are older than the image's Python are named with a version that has a wheel."""

from mlship.errors import UsageError
from mlship.lock.failures import explain
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.old_pins import find_old_pins
from tests.helpers.lock_configs import config
from tests.helpers.pages import served_pages

CONFIG = config('python: "3.11"\n')
WHEELS = {
    "pandas": ("1.4.3-cp310-cp310", "1.5.0-cp311-cp311", "2.0.0-cp311-cp311"),
    "scikit-learn": ("1.1.1-cp310-cp310", "1.2.0rc1-cp311-cp311", "1.2.0-cp311-cp311"),
    "numpy": ("1.19.5-cp39-cp39", "1.23.2-cp311-cp311"),
    "flask": ("1.0-py36+-none", "2.0-py3-none"),
}
FILES = (
    InputFile("serving/requirements.in", "-r ../requirements.txt\ngunicorn\n"),
    InputFile("requirements.txt", "pandas==1.4.3\nscikit_learn==1.1.1\nflask==2.0\nnumpy>=1.19\nmine==1\nnumpy==1.x\n"),
)
FAILED = "Collecting pandas==1.4.3\nerror: metadata-generation-failed\nModuleNotFoundError: No module named 'x'\n"


def page(name: str, wheels: tuple[str, ...]) -> tuple[str, str]:
    platform = "any" if name == "flask" else "manylinux_2_17_x86_64"
    names = [f"{name.replace('-', '_')}-{wheel}-{platform}.whl" for wheel in wheels]
    return "text/html", "".join(f'<a href="{one}">{one}</a>' for one in (*names, f"{name}-1.0.tar.gz"))


def test_every_old_pin_is_named_at_once() -> None:
    with served_pages({f"/simple/{name}/": page(name, wheels) for name, wheels in WHEELS.items()}) as (address, _):
        settings = PipSettings(index_url=f"{address}/simple")
        assert [str(pin) for pin in find_old_pins(FILES, CONFIG, settings)] == [
            "`pandas==1.5.0` instead of `pandas==1.4.3` (requirements.txt, line 1)",
            "`scikit_learn==1.2.0` instead of `scikit_learn==1.1.1` (requirements.txt, line 2)",
        ]
        error = explain(FAILED, CONFIG, None, settings, FILES)
    assert isinstance(error, UsageError)
    assert error.message.endswith("\n2 pins are older than Python 3.11 and without a wheel for it")
    assert error.hint.startswith("require `pandas==1.5.0` instead of `pandas==1.4.3` (requirements.txt, line 1), ")


def test_without_old_pins_the_error_is_the_known_one() -> None:
    with served_pages({}) as (address, _):
        error = explain(FAILED, CONFIG, None, PipSettings(index_url=f"{address}/simple"), FILES)
    assert "pins are older" not in error.message
    assert "pin a version with wheels" in error.hint
