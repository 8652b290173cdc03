"""The proof of an image as an in-toto statement: which image, tested where, what passed.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md, with one more field, `mlship`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked

from mlship import __version__
from mlship.errors import CheckFailed
from mlship.project.values import Sha256
from mlship.registry.client import StoredContent, content
from mlship.smoke.result import Figures, SmokeReport, Status, TestedOn
from mlship.versioned import adapter, first_error

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
# The field that in-toto tools show and filter by; https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md
PREDICATE_TYPE = "in-toto.io/predicate-type"
_AGAIN = "build and push the image again, or test it with `mlship smoke IMAGE --attest`"


@dataclass(frozen=True)
class Digest:
    sha256: Sha256


@dataclass(frozen=True)
class Resource:
    """A named artifact: the image, or something it was built from."""

    name: str
    digest: Digest


@dataclass(frozen=True)
class CheckResult:
    """One check of the smoke test; see mlship.smoke.result.Check."""

    id: str
    status: Status
    seen: str


@dataclass(frozen=True)
class Details:
    """What the test-result predicate has no field for.

    Attributes:
        version: of mlship; engine: of the engine that ran the test.
        image: id of the tested image. A proof label may have been added since; the layers are the same.
        date: when the proof was made, UTC.
    """

    version: str
    engine: str
    device: TestedOn
    gpus: tuple[str, ...]
    driver: str | None
    image: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    checks: tuple[CheckResult, ...]
    figures: Figures


@dataclass(frozen=True)
class Predicate:
    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: tuple[Resource, ...]
    passedTests: tuple[str, ...]  # noqa: N815  in-toto's names
    warnedTests: tuple[str, ...]  # noqa: N815
    failedTests: tuple[str, ...]  # noqa: N815
    mlship: Details


@checked(frozen=True, config=ConfigDict(populate_by_name=True))
class Statement:
    """An in-toto statement about one image."""

    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: tuple[Resource, ...]
    predicateType: Literal["https://in-toto.io/attestation/test-result/v0.1"]  # noqa: N815
    predicate: Predicate


def make_statement(
    name: str, digest: str, report: SmokeReport, materials: Iterable[Resource], engine: str, now: datetime
) -> StoredContent:
    """The statement about a pushed image, as the bytes to attach.

    Args:
        name: of the image, without its tag; digest: of its manifest in the registry.
        materials: what the image was built from.
        engine: version of the engine that ran the test.
    """
    details = Details(
        version=__version__,
        engine=engine,
        device=report.device,
        gpus=report.gpus,
        driver=report.driver,
        image=report.image_id,
        date=now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        checks=tuple(CheckResult(check.id, check.status, check.seen.partition("\n")[0]) for check in report.checks),
        figures=report.figures,
    )
    statement = Statement(STATEMENT, (resource(name, digest),), TEST_RESULT, _predicate(tuple(materials), details))
    return content(MEDIA_TYPE, adapter(Statement).dump_json(statement, by_alias=True))


def resource(name: str, digest: str) -> Resource:
    """A resource by its digest (`sha256:...`)."""
    return Resource(name, Digest(digest.removeprefix("sha256:")))


def is_proof(attached: StoredContent) -> bool:
    """Whether an in-toto statement is one of mlship's, true or not; others may attach statements of their own."""
    found = attached.json()
    predicate = found.get("predicate")
    return found.get("predicateType") == TEST_RESULT and isinstance(predicate, dict) and "mlship" in predicate


def read_statement(attached: StoredContent, digest: str) -> Predicate:
    """The predicate of a statement that proves the image with this digest.

    Raises:
        CheckFailed: it is not a statement, is about another image, or says that the image failed.
    """
    try:
        statement = adapter(Statement).validate_json(attached.data)
    except ValidationError as error:
        raise CheckFailed(f"the proof {attached.digest} is not valid: {first_error(error)}", hint=_AGAIN) from error
    if [one.digest.sha256 for one in statement.subject] != [digest.removeprefix("sha256:")]:
        raise CheckFailed(f"the proof {attached.digest} is about another image than {digest}", hint=_AGAIN)
    if reason := _contradiction(statement.predicate):
        raise CheckFailed(f"the proof {attached.digest} contradicts itself: {reason}", hint=_AGAIN)
    if statement.predicate.result == "FAILED":
        failed = ", ".join(statement.predicate.failedTests)
        raise CheckFailed(f"{digest} failed its smoke test: {failed}", hint=_AGAIN)
    return statement.predicate


def _predicate(materials: tuple[Resource, ...], details: Details) -> Predicate:
    """What the checks say."""
    passed, warned, failed = (
        tuple(check.id for check in details.checks if check.status == status) for status in ("pass", "warn", "fail")
    )
    result: Literal["PASSED", "WARNED", "FAILED"] = "FAILED" if failed else "WARNED" if warned else "PASSED"
    return Predicate(result, materials, passed, warned, failed, details)


def _contradiction(found: Predicate) -> str | None:
    """Why the fields of a predicate cannot all be true."""
    said = _predicate(found.configuration, found.mlship)
    for name in ("passedTests", "warnedTests", "failedTests"):
        if getattr(found, name) != getattr(said, name):
            return f"`{name}` is not what `checks` says"
    if not found.passedTests:
        return "no test passed"
    if found.result != said.result:
        return f"`result` is {found.result}, and the tests say {said.result}"
    if (found.mlship.device == "cpu") != (not found.mlship.gpus):
        return f"`device` is {found.mlship.device}, and `gpus` lists {len(found.mlship.gpus)}"
    return None
