"""A diagnosis as one self-contained page: no script, font or external address."""

from dataclasses import dataclass

from mlship import __version__
from mlship.doctor.diagnose import Diagnosis
from mlship.render import render_page
from mlship.report.doctor import words


@dataclass(frozen=True)
class PageHead:
    """What the page says about itself: the machine or the file that was diagnosed, and when."""

    host: str
    date: str
    mlship: str = __version__


def diagnosis_page(diagnosis: Diagnosis, head: PageHead) -> str:
    """The page, in the order of the text report. Facts appear as text, never as markup."""
    return render_page("doctor.html.j2", diagnosis=diagnosis, head=head, words=words)
