"""Streamlit and Gradio apps: pages for people, without a route that takes a sample. Their model can be served."""

from collections.abc import Iterable, Iterator

from mlship.init.sources import Module
from mlship.project.serving_table import serving_table
from mlship.units import few


def page_apps(modules: Iterable[Module]) -> dict[str, str]:
    """The library of each file that is such an app."""
    titles = serving_table().pages
    found = ((module.path, titles.keys() & module.statements.needed) for module in modules if not module.apps)
    return {path: titles[min(names)] for path, names in found if names}


def page_notes(apps: dict[str, str]) -> Iterator[str]:
    """What mlship does with them."""
    for title in sorted(set(apps.values())):
        paths = [f"`{path}`" for path, own in apps.items() if own == title]
        verb, pronoun = ("is", "it") if len(paths) == 1 else ("are", "them")
        yield (
            f"{few(paths)} {verb} for {title}, whose pages have no route that takes a sample, so mlship does not serve "
            f"{pronoun}: write `load()` in a file of its own, and mlship serves the model"
        )
