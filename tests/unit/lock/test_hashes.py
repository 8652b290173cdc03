"""Which wheels the image can install."""

from packaging.tags import Tag

from mlship.lock.installable import supported_tags
from mlship.project.load import parse_config
from tests.helpers.lock_configs import YAML


def test_every_manylinux_up_to_the_image_s_glibc_is_supported() -> None:
    """PEP 600 begins with 2.5, which is manylinux1."""
    found = [tag.platform for tag in supported_tags(parse_config(YAML)) if tag.interpreter == tag.abi == "cp311"]
    numbers = [int(name.split("_")[2]) for name in found if name.startswith("manylinux_2_")]
    assert numbers == list(range(36, 4, -1))
    assert found[len(numbers) :] == [
        f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")
    ]


def test_musl_is_not_supported() -> None:
    tags = set(supported_tags(parse_config(YAML)))
    assert Tag("py3", "none", "any") in tags
    assert not any("musl" in tag.platform for tag in tags)
