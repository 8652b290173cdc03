"""Programs that examine a place from the inside, run as processes here and through `python -c` in containers.

Each is self-contained: standard library only, valid for Python 3.8, no mlship imports.
"""

from pathlib import Path

INSIDE = Path(__file__).parent
