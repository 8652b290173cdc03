"""Names without a registry: they mean Docker Hub, and users mean an image of their machine."""

from collections.abc import Callable

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.proof.attach import verify
from mlship.proof.story import read_story
from mlship.registry.client import Registry
from mlship.registry.images import image_in_registry

_FAILURES = (TransientError("no answer", hint="try again"), UsageError("denied", hint="log in"), None)


def _error(read: Callable[[], object], monkeypatch: pytest.MonkeyPatch, failure: MlshipError | None) -> MlshipError:
    def manifest(*_: object) -> None:
        if failure is not None:
            raise type(failure)(failure.message, hint=failure.hint)

    monkeypatch.setattr(Registry, "manifest", manifest)
    with pytest.raises(MlshipError) as error:
        read()
    return error.value


@pytest.mark.parametrize("failure", _FAILURES)
@pytest.mark.parametrize("read", [image_in_registry, read_story, lambda name: verify(name, None)])
@pytest.mark.parametrize("name", ["demo:1", "team/demo", f"demo@sha256:{'0' * 64}"])
def test_docker_hub_is_named_with_the_way_to_push(
    monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[str], object], failure: MlshipError | None
) -> None:
    error = _error(lambda: read(name), monkeypatch, failure)
    assert f"`mlship build --tag REGISTRY/{name.partition('@')[0]} --push`" in error.hint
    assert "Docker Hub" in error.hint
    assert failure is None or (type(error) is type(failure) and failure.hint in error.hint)


@pytest.mark.parametrize("failure", _FAILURES)
@pytest.mark.parametrize(
    "name", ["docker.io/team/demo:1", "localhost:5000/demo", f"localhost:5000/demo@sha256:{'0' * 64}"]
)
def test_a_named_registry_is_meant(monkeypatch: pytest.MonkeyPatch, name: str, failure: MlshipError | None) -> None:
    error = _error(lambda: verify(name, None), monkeypatch, failure)
    tag = name.partition("@")[0]
    push = f"push it first: `docker push {tag}`, or `mlship build --tag {tag} --push`"
    assert error.hint == (failure.hint if failure else f"check the name and the tag, or {push}")
