from mlship.lock.pins import Pin
from mlship.report.lock import lock_changes


def pin(name: str, version: str) -> Pin:
    return Pin(name, version, ("sha256:0",))


def test_changes_are_added_removed_and_moved() -> None:
    before = (pin("a", "1"), pin("b", "1"), pin("d", "1"))
    after = (pin("b", "2"), pin("c", "1"), pin("d", "1"))
    assert [str(change) for change in lock_changes(before, after)] == ["- a 1", "~ b 1 -> 2", "+ c 1"]
