"""Reports the story of an image, and the proofs that are attached to it."""

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from mlship import plain
from mlship.console import clean, out
from mlship.image.labels import OCI, OWN
from mlship.proof.attach import Verified
from mlship.proof.statement import Predicate
from mlship.proof.story import Story
from mlship.render import render_page
from mlship.report.smoke import measured, where
from mlship.units import count_of, size

UNKNOWN = "unknown"


def show_story(story: Story) -> None:
    out(story.image, style="bold")
    for name, value in _facts(story):
        out(f"  {name:<14}{value}")


def story_page(story: Story) -> str:
    """A self-contained HTML page. Values from the registry are escaped and never become markup."""
    name, _, digest = story.image.partition("@")
    return render_page(
        "story.html.j2",
        story=story,
        name=name,
        digest=digest,
        facts=tuple(_facts(story)),
        inputs=tuple(_inputs(story.provenance)),
        packages=len(story.contents.get("library", ())),
        training=json.dumps(story.training, indent=2, sort_keys=True, ensure_ascii=False) if story.training else "",
        clean=clean,
        size=size,
        where=where,
    )


def _inputs(provenance: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """The name and the hash of each input of a build."""
    for row in plain.items(provenance, "buildDefinition", "resolvedDependencies"):
        if isinstance(plain.at(row, "digest"), dict):
            hashes = ", ".join(f"{kind}:{value}" for kind, value in sorted(plain.table(row, "digest").items()))
            yield str(plain.at(row, "name") or plain.at(row, "uri")), hashes


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    labels = story.labels
    yield "platform", story.platform
    yield "code", _code(labels)
    yield "built", labels.get(f"{OCI}.created", UNKNOWN)
    yield (
        "base",
        " ".join(labels[key] for key in (f"{OCI}.base.name", f"{OCI}.base.digest") if key in labels) or UNKNOWN,
    )
    yield "provenance", _provenance(story.provenance)
    yield "lock", labels.get(f"{OWN}.lock", UNKNOWN)
    newest = story.proofs[-1] if story.proofs else None
    for file in story.contents.get("machine-learning-model", (UNKNOWN,)):
        yield "model", file
    yield "training", _training(story.training)
    packages = story.contents.get("library")
    yield "contents", count_of(len(packages), "package") if packages else UNKNOWN
    yield "proven", f"on {where(newest.mlship)}, {newest.mlship.date}" if newest else "no proof is attached"
    if story.largest is not None:
        whole = f"{size(sum(story.layers))} in {count_of(len(story.layers), 'layer')}"
        yield "pull", f"{whole}; the largest is {story.largest:.0%}"
    if pickles := labels.get(f"{OWN}.allow-pickle"):
        yield "pickles", pickles


def _code(labels: Mapping[str, str]) -> str:
    commit, source = labels.get(f"{OCI}.revision"), labels.get(f"{OCI}.source")
    return f"{commit}{f' of {source}' if source else ''}" if commit else UNKNOWN


def _provenance(predicate: Mapping[str, JsonValue]) -> str:
    """The builder, and how many inputs it names."""
    builder, definition = plain.at(predicate, "runDetails", "builder"), plain.at(predicate, "buildDefinition")
    if not isinstance(builder, dict) or not isinstance(definition, dict):
        return UNKNOWN
    version = plain.table(builder, "version")
    number = f" {version['mlship']}" if "mlship" in version else ""
    count = sum(1 for _ in plain.items(definition, "resolvedDependencies"))
    changed = plain.at(definition, "internalParameters", "uncommittedChanges")
    dirty = ", with uncommitted changes" if changed else ""
    return f"SLSA v1, by {plain.at(builder, 'id')}{number}, from {count_of(count, 'input')}{dirty} (not signed)"


def _training(record: Mapping[str, JsonValue]) -> str:
    if not record:
        return UNKNOWN
    commit, packages = plain.at(record, "git", "commit"), plain.at(record, "packages")
    dirty = ", with uncommitted changes" if plain.at(record, "git", "dirty") else ""
    count = f"; {count_of(len(packages), 'package')} on record" if isinstance(packages, dict) else ""
    return f"{record.get('created') or 'at an unknown time'}, commit {commit or UNKNOWN}{dirty}{count}"


def show_proofs(verified: Verified) -> None:
    """Print the newest proof in full, and one line for each older one."""
    newest = verified.proofs[-1]
    out(f"PROVEN on {where(newest.mlship)}: {verified.image}", style="bold green")
    for name, value in (("digest", verified.digest), *_proof_facts(newest)):
        out(f"  {name:<18}{value}")
    for platform, digest in verified.platforms.items():
        out(f"  {platform:<18}{digest}")
    for older in verified.proofs[-2::-1]:
        out(f"  {'also proven on':<18}{where(older.mlship)}, {older.mlship.date}")


def _proof_facts(proof: Predicate) -> Iterator[tuple[str, str]]:
    details = proof.mlship
    yield "tested", f"{details.date} by mlship {details.version}, engine {details.engine}"
    yield "passed", count_of(len(proof.passedTests), "check")
    if proof.warnedTests:
        yield "warnings", ", ".join(proof.warnedTests)
    skipped = ", ".join(check.id for check in details.checks if check.status == "skip")
    if skipped:
        yield "not checked", skipped
    for source in proof.configuration:
        yield "built from", f"{source.name} sha256:{source.digest.sha256}"
    yield from measured(details.figures)
