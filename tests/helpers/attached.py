"""Proofs as a build attaches them, without a registry."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from mlship.proof.statement import Resource
from mlship.smoke.result import SmokeReport

ATTESTATION = f"sha256:{'a' * 64}"


@dataclass
class Attached:
    """What was attached: image, digest and the names of what the image was built from."""

    rows: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def add(self, image: str, digest: str, _report: SmokeReport, materials: Iterable[Resource], _engine: str) -> str:
        self.rows.append((image, digest, tuple(one.name for one in materials)))
        return ATTESTATION

    @staticmethod
    def instead_of_a_registry(monkeypatch: pytest.MonkeyPatch) -> "Attached":
        found = Attached()
        monkeypatch.setattr("mlship.proof.attach.attach_proof", found.add)
        monkeypatch.setattr("mlship.build.story.attach_story", lambda *_arguments: None)
        return found
