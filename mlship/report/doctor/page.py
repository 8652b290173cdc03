"""A diagnosis as one self-contained page: no script, font or external address."""

from mlship.doctor.diagnose import Diagnosis
from mlship.render import render
from mlship.report.doctor import words


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """The page, in the order of the text report. Facts appear as text, never as markup."""
    page = render("doctor.html.j2", diagnosis=diagnosis, words=words)
    return "".join(character for character in page if character == "\n" or character.isprintable())
