"""The result of `mlship convert` for people."""

from mlship.console import out
from mlship.convert.in_container import ComparedModel
from mlship.convert.run import Conversion
from mlship.units import count_of


def show_conversion(done: Conversion) -> None:
    """Say what was written, and what was compared."""
    written = f"wrote {', '.join(done.files)}"
    if done.tensors is not None:
        written += f": {count_of(done.tensors, 'tensor')} compared, the same bit for bit"
    out(written)
    for line in _compared(done.outputs) if done.outputs else ():
        out(f"  {line}")
    if done.record:
        out(f"wrote {done.record}")


def _compared(outputs: ComparedModel) -> list[str]:
    rows = f"{count_of(outputs.rows, 'row')} of the sample"
    relative, absolute = outputs.tolerance
    if relative or absolute:
        verdict = f"largest difference {outputs.largest:.1e} (allowed: {absolute:g} + {relative:g} of the value)"
    else:
        verdict = "the same bit for bit"
    lines = [f"{' and '.join(outputs.outputs)} compared on {rows}: {verdict}"]
    if outputs.uncompared:
        lines.append(f"not compared: {', '.join(outputs.uncompared)}")
    if outputs.trusted:
        lines.append(f"types that loading it has to trust: {', '.join(outputs.trusted)}")
    lines.append(f"converted with {', '.join(f'{name} {text}' for name, text in outputs.versions.items())}")
    return lines
