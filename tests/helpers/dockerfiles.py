"""Number the instructions of a Dockerfile as BuildKit does."""


def numbered_steps(text: str) -> dict[str, list[str]]:
    """The instructions that make layers, by stage, without options.

    BuildKit also numbers FROM where it names an image; such stages have no steps in mlship's Dockerfiles.
    """
    found: dict[str, list[str]] = {}
    stage = ""
    for line in text.splitlines():
        word = line.partition(" ")[0]
        if word == "FROM":
            stage = line.rpartition(" AS ")[2]
        elif word in {"RUN", "COPY", "WORKDIR"}:
            assert stage != "base"
            found.setdefault(stage, []).append(line)
    return found
