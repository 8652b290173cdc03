"""A registry over HTTPS: which CA its certificate has to be signed by."""

import re
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.registry.client import OCI_MANIFEST, opened
from mlship.registry.reference import Reference
from tests.helpers.failing_index import self_signed
from tests.helpers.registry_server import RegistryState, registry_server


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib3 leaves the socket open
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "MLSHIP_NO_SUCH_VARIABLE"])
def test_a_registrys_own_ca_comes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As in Docker: the variables are often set for pip's proxy."""
    (tmp_path / "other").mkdir()
    certificate, other = self_signed(tmp_path), self_signed(tmp_path / "other")
    monkeypatch.setenv(variable, str(other.parent / "cert.pem"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("mlship.registry.client._LOCAL", re.compile("never"))
    monkeypatch.setattr("mlship.registry.client._CERTIFICATES", str(tmp_path))
    state = RegistryState()
    state.put(OCI_MANIFEST, b'{"schemaVersion": 2}', "1")
    with registry_server(state, certificate) as host:
        with (
            opened(Reference.parse(f"{host}/toy:1")) as registry,
            pytest.raises(UsageError, match="no certificate that this machine trusts"),
        ):
            registry.manifest("1")
        (tmp_path / host).mkdir()
        (tmp_path / host / "ca.crt").write_bytes((tmp_path / "cert.pem").read_bytes())
        with opened(Reference.parse(f"{host}/toy:1")) as registry:
            assert registry.manifest("1")


def test_on_another_host_the_ca_of_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token server need not have a certificate of the registry's own CA."""
    monkeypatch.setattr("mlship.registry.client._CERTIFICATES", str(tmp_path))
    (tmp_path / "registry.example").mkdir()
    (own := tmp_path / "registry.example/ca.crt").write_text("own")
    used: list[object] = []
    with opened(Reference.parse("registry.example/toy:1")) as registry:
        monkeypatch.setattr(registry, "_request_to", lambda *_, verify, **__: used.append(verify))
        registry._send("GET", "https://registry.example/v2/")
        registry._send("GET", "https://token.example/")
    assert used == [str(own), None]
