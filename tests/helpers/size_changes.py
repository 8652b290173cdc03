"""A newer image to compare sizes with."""

from dataclasses import replace

from tests.helpers.layouts import record
from tests.helpers.size_reports import IMAGE, SITE

SIX = record(SITE, "six", "1.18", {"six.py": b"6" * 12})


NEWER = replace(IMAGE, trees=[*IMAGE.trees[:4], SIX, *IMAGE.trees[5:]])
