"""`mlship inspect` and `mlship verify`: what a registry knows of an image."""

from typing import Annotated

import typer

from mlship.cli.options import Html, Json, On, save_page, show_result


def inspect_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image in a registry, by tag or digest.")],
    html: Html = None,
    json: Json = False,
) -> None:
    """Show what an image in a registry was built from.

    Reads the registry alone, without pulling: commit, lock, weights and training of the model, where the image is
    proven, and what is in it. What nothing says is "unknown".
    """
    from mlship.build.preflight import check_reference
    from mlship.files import check_new
    from mlship.proof.story import read_story
    from mlship.report.story import show_story, story_page

    if html is not None:
        check_new(html)
    found = read_story(check_reference(image))
    show_result(found, show_story, json=json)
    save_page(html, lambda: story_page(found))


def verify_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image in a registry, by tag or digest.")],
    on: Annotated[On | None, typer.Option(help="Require a proof on this device. [default: either]")] = None,
    platform: Annotated[
        str | None, typer.Option(metavar="OS/ARCH", help="Verify this image of an index. [default: all]")
    ] = None,
    json: Json = False,
) -> None:
    """Verify the proof of an image in a registry.

    Reads the proof that `mlship build --push` attached. Exit code 1: there is none, or it is not about this image.
    Proofs are not signed: anyone who can push to the repository can attach one.
    """
    from mlship.build.preflight import check_reference
    from mlship.proof.attach import verify as verify_image
    from mlship.report.story import show_proofs

    show_result(verify_image(check_reference(image), on, platform), show_proofs, json=json)
