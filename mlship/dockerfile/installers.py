"""Commands of package managers in a Dockerfile, as these managers see them. Pure."""

from mlship.dockerfile.shell import Command

_PYTHONS = {"python", "python3"}
PIP_OPTIONS_WITH_VALUE = {
    *(
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-i",
        "--index-url",
        "--extra-index-url",
        "-f",
        "--find-links",
        "-t",
    ),
    *("--target", "--prefix", "--root", "--python", "-p", "--platform", "--only-binary", "--no-binary", "--src"),
    *("--timeout", "--retries", "--trusted-host", "--cert", "--cache-dir", "--progress-bar", "--index-strategy"),
    *("--torch-backend", "--python-version", "--abi", "--implementation", "--global-option", "--config-settings", "-C"),
    *("--root-user-action", "--upgrade-strategy", "--proxy", "--log", "--report", "--link-mode", "--index", "-n"),
}


def program_and_arguments(command: Command) -> tuple[str, tuple[str, ...]]:
    """A command as its package manager sees it: `python3.11 -m pip`, `pip3` and `pip3.11` are pip."""
    program, arguments = command.program, command.words[1:]
    if program.rstrip("0123456789.") in _PYTHONS and "-m" in arguments[:3]:
        at = arguments.index("-m") + 1
        program, arguments = (arguments[at] if at < len(arguments) else ""), arguments[at + 1 :]
    if program.startswith("pip") and not program.removeprefix("pip").strip("0123456789."):
        program = "pip"
    return program, arguments
