"""`mlship verify`."""

from typing import Annotated

import typer

from mlship.cli.options import Json, On, show_result


def verify_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image in a registry, by tag or digest.")],
    on: Annotated[On | None, typer.Option("--on", help="Require a proof on this device. [default: either]")] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="OS/ARCH", help="Verify this image of an index. [default: all]")
    ] = None,
    json: Json = False,
) -> None:
    """Verify the proof of an image in a registry.

    Reads the proof that `mlship build --push` attached. Exit code 1: there is none, or it is not about this image.
    Proofs are not signed: anyone who can push to the repository can attach one.
    """
    from mlship.build.preflight import check_reference
    from mlship.proof.attach import verify as verify_image
    from mlship.report.proof import show_proofs

    found = verify_image(check_reference(image), on.value if on else None, platform)
    show_result(found, show_proofs, json=json)
