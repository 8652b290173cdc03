"""Pins that the build compiles, and what mlship.yaml needs for it."""

import pytest

from mlship.lock.doubts import built_from_source, instead_of
from mlship.lock.hashes import HashedPin
from mlship.lock.pages import IndexFile
from tests.helpers.lock_configs import config


def pin(requirement: str, file: str | None) -> HashedPin:
    return HashedPin(
        requirement.partition("==")[0], requirement, (), IndexFile(file, "https://x/y", None) if file else None
    )


@pytest.mark.parametrize(
    ("requirement", "file", "system", "said"),
    [
        ("numpy==2.0", "numpy-2.0-cp311-cp311-manylinux_2_28_x86_64.whl", "", None),
        ("numpy==2.0", None, "", None),  # unknown
        ("odd==2.0", "odd-2.0.tar.gz", "", "if that needs a compiler, add it as `system.build`"),
        ("odd==2.0", "odd-2.0.tar.gz", "system: {build: [gcc]}", None),
        ("psycopg2==2.9.10", "psycopg2-2.9.10.tar.gz", "", "build: [gcc, libc6-dev, libpq-dev], run: [libpq5]"),
        ("psycopg2==2.9.10", "psycopg2-2.9.10.tar.gz", "system: {build: [gcc]}", "or require `psycopg2-binary`"),
        (
            *("psycopg2==2.9.10", "psycopg2-2.9.10.tar.gz"),
            *("system: {build: [gcc, libc6-dev, libpq-dev], run: [libpq5]}", None),
        ),
    ],
)
def test_what_has_no_wheel_is_said_with_what_it_needs(
    requirement: str, file: str | None, system: str, said: str | None
) -> None:
    found = list(built_from_source([pin(requirement, file)], config(system)))
    assert len(found) == (said is not None)
    if said:
        assert said in found[0]
        assert f"`{requirement}` has no wheel for Python 3.11 on linux/amd64" in found[0]


def test_an_alternative_is_named_only_if_it_is_known() -> None:
    assert instead_of("psycopg2", "require {}, or ") == "require `psycopg2-binary`, or "
    assert instead_of("odd", "require {}, or ") == ""
