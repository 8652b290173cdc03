"""A scan for people."""

from collections.abc import Iterator

from mlship.console import clean, out_lines
from mlship.frameworks import framework_table
from mlship.scan.report import ScannedFile, ScanReport
from mlship.units import count_of, few

_MOST_NAMES = 8


def show_scan(report: ScanReport) -> None:
    """Print the findings first, then the files that are data, then a summary."""
    out_lines(clean(line).replace("\n", " ") for line in _lines(report))


def _lines(report: ScanReport) -> Iterator[str]:
    for file in report.files:
        yield f"{file.verdict:<8} {file.path}: {_meaning(file)}"
    for text in report.unread:
        yield f"unknown  {text}"
    code, read = report.count("code"), count_of(report.read, "file")
    runs = "1 runs code when loaded" if code == 1 else f"{code} run code when loaded"
    unknown = report.count("unknown") + len(report.unread)
    yield f"{report.target}: {read} read; {runs}, {unknown} unknown, {report.count('data')} data"


def _meaning(file: ScannedFile) -> str:
    if file.verdict == "data":
        return _title(file)
    if file.problem:
        return file.problem
    row = framework_table().formats.get(file.kind)
    text = row.problem if row and row.problem else f"is {_title(file)}"
    if any(name.startswith("chat_template.") for name in file.uses):
        text = "has a chat template that reaches out of its sandbox"
    if file.foreign:
        return f"{text}; uses {few(file.foreign, _MOST_NAMES)}, which no known framework needs"
    return f"{text}; uses {few(file.uses, _MOST_NAMES)}" if file.uses else text


def _title(file: ScannedFile) -> str:
    row = framework_table().formats.get(file.kind)
    return (row.title if row else "") or file.kind
