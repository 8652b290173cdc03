"""Locks and lists on hosts, each answer written down from the documents before it was asked for.

A package whose code is unknown is unknown, except where the CUDA that it names needs a newer driver.
"""

from pathlib import Path

import pytest

from mlship.cuda.fit.fits import fit_lock
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.foreign import read_foreign_lock

AMD = "linux/amd64"
LINES = [line for line in Path(__file__).with_name("pairs.txt").read_text().splitlines() if line and line[0] != "#"]
WHOLE = dict(line.split(" = ") for line in LINES if " = " in line)
PAIRS = [line.split() for line in LINES if " = " not in line]


@pytest.mark.bank(kind=lambda pair: (pair[2], pair[3].partition("=")[0]))
@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_the_answer_is_what_the_documents_say(tmp_path: Path, pair: list[str]) -> None:
    driver, capability, expected, *pins = pair
    (tmp_path / "lock.txt").write_text("\n".join(" ".join(WHOLE.get(pin, pin) for pin in pins).split()))
    gpu = HostGpu("GPU", None if capability == "-" else capability)
    fleet = Fleet((HostProfile("h", driver, (gpu,), AMD),), "hosts/", committed=True)
    found = fit_lock(read_foreign_lock(tmp_path / "lock.txt", AMD), fleet, AMD)
    assert found.outcome == expected, [limit.why for limit in found.hosts[0].limits]
