"""The device code that was measured in locked wheels, against what the tables list. Pure."""

from collections.abc import Iterable, Iterator

from mlship.cuda.fit.judge import Kernels, Stack
from mlship.cuda.versions import Capability
from mlship.lock.pins import Pin


def kernels_of(pin: Pin, major: int, *, ptx: bool = True) -> tuple[Kernels, ...]:
    """The measured code of a pin, without libraries for another CUDA: bitsandbytes has one for each.

    Args:
        ptx: PTX counts; not where a row leaves it out, because the code does not show whether it loads.
    """
    fitting = [part for part in pin.code if not part.cuda or str(major) in part.cuda.split()]
    return tuple(
        Kernels(
            _capabilities(part.cubins),
            _capabilities(part.specific),
            _capabilities(part.ptx if ptx else ""),
            part.compressed,
        )
        for part in fitting or pin.code
    )


def _capabilities(text: str) -> tuple[Capability, ...]:
    return tuple(map(Capability.parse, text.split()))


def differing(stacks: Iterable[Stack]) -> Iterator[str]:
    """Where a wheel lacks code that the tables list, or has more."""
    for stack in stacks:
        cubins = {one for kernels in stack.measured for one in kernels.architectures}
        found = cubins | {one for kernels in stack.measured for one in kernels.specific}
        listed = {*(stack.architectures or ()), *stack.specific}
        if stack.measured and stack.architectures is not None and not cubins <= listed <= found:
            has = _listed(found)
            yield f"{stack.name}: the tables list code for {_listed(listed)}, but its wheel has code for {has}"


def _listed(capabilities: Iterable[Capability]) -> str:
    return ", ".join(map(str, sorted(capabilities)))
