"""Reports the proofs that are attached to an image."""

from collections.abc import Iterator

from mlship.proof.attach import Verified
from mlship.proof.statement import Predicate
from mlship.report.smoke import measured, where


def show_proofs(verified: Verified) -> None:
    """Print the newest proof in full, and one line for each older one."""
    from mlship.console import out

    newest = verified.proofs[-1]
    out(f"PROVEN on {where(newest.mlship)}: {verified.image}", style="bold green")
    for name, value in (("digest", verified.digest), *_facts(newest)):
        out(f"  {name:<18}{value}")
    for platform, digest in verified.platforms.items():
        out(f"  {platform:<18}{digest}")
    for older in verified.proofs[-2::-1]:
        out(f"  {'also proven on':<18}{where(older.mlship)}, {older.mlship.date}")


def _facts(proof: Predicate) -> Iterator[tuple[str, str]]:
    details = proof.mlship
    yield "tested", f"{details.date} by mlship {details.version}, engine {details.engine}"
    yield "passed", f"{len(proof.passedTests)} checks"
    if proof.warnedTests:
        yield "warnings", ", ".join(proof.warnedTests)
    skipped = ", ".join(check.id for check in details.checks if check.status == "skip")
    if skipped:
        yield "not checked", skipped
    for source in proof.configuration:
        yield "built from", f"{source.name} sha256:{source.digest.sha256}"
    yield from measured(details.figures)
