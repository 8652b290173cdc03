"""mlship's own tables: no key that nothing reads. TableRow refuses such keys; dataclasses ignore them."""

import re
import tomllib

import pytest

from mlship.audit.rules import AuditTable
from mlship.doctor.chain.link import Link
from mlship.doctor.chain.messages import Message
from mlship.doctor.commands import PlaceTable
from mlship.doctor.finding import LAYERS
from mlship.doctor.probes.tables import ProbeTables
from mlship.doctor.rule_texts import RuleText
from mlship.init.known import InitTable
from mlship.project import credentials
from mlship.project.structure.schemas import StructureTable
from mlship.resources import read_package_file
from mlship.versioned import adapter

FILES = [layer.replace(" ", "-") for layer in LAYERS]
TABLES: dict[str, object] = {
    "audit": AuditTable,
    "chain": dict[str, tuple[Link, ...]],
    "credentials": credentials._Table,
    "init": InitTable,
    "places": PlaceTable,
    "probes": ProbeTables,
    "structures": StructureTable,
    "symptoms": dict[str, tuple[Message, ...]],
    **{f"messages/{file}": dict[str, tuple[Message, ...]] for file in FILES},
    **{f"rules/{file}": dict[str, RuleText] for file in FILES},
}


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_read(name: str) -> None:
    document = tomllib.loads(read_package_file(f"data/{name}.toml"))
    if name.startswith("rules/"):
        layer = name.removeprefix("rules/").replace("-", " ")
        document = {rule: {"layer": layer, **row} for rule, row in document.items()}
    if name.startswith("messages/"):  # what tests read
        for row in (row for rows in document.values() for row in rows):
            row.pop("source", None)
            row.pop("example", None)
    kind: type[object] = TABLES[name]  # type: ignore[assignment]  # a generic alias is one too
    adapter(kind).validate_python(document, extra="forbid")


@pytest.mark.parametrize("file", FILES)
def test_no_text_of_a_rule_has_a_name_inside_a_word(file: str) -> None:
    """A text replaced by its rule's id, as in `NVsome-ruleIA`, is found by no other test: not every step has a host."""
    text = read_package_file(f"data/rules/{file}.toml")
    for name in tomllib.loads(text):
        assert not re.findall(rf"[A-Za-z]{re.escape(name)}[A-Za-z]", text)
