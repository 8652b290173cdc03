"""Rules about what the loader cannot load in an image: the driver's libraries under musl."""

from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.rules.base import computes


@computes("alpine-musl-no-driver-libs")
def _musl(facts: Facts) -> Iterator[Values]:
    mounted = tuple(library.path for library in each(facts.container.loader.libraries) if known(library.mounted))
    for seen, libc in (("container", facts.container.libc), ("image", facts.image.libc)):
        bare = known(libc.musl_loader) is not None and is_absent(libc.glibc_loader)
        if (known(libc.family) == "musl" or bare) and not known(libc.glibc_loader):
            yield {"seen": seen, "loader": known(libc.musl_loader) or "musl", "mounted": mounted[:1]}
