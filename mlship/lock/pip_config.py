"""pip's own configuration, read as pip documents it: files, then environment.

Every build reads it, and `pip config list` would take a third of a second of CPU. A test compares the two.
"""

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlship.errors import UsageError

_SECTIONS = ("global", "install")
_NO_OPTIONS = {"PIP_CONFIG_FILE", "PIP_ISOLATED"}


def pip_options(environment: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> dict[str, str]:
    """The options of `pip install` by name, such as "index-url"; later files and the environment win.

    Args:
        prefix: the prefix of pip's Python; its pip.conf is the "site" level.

    Raises:
        UsageError: a configuration file is malformed.
    """
    merged: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for path in config_files(environment, prefix):
        for section, options in _read(path).items():
            merged.setdefault(section, {}).update(options)
    found = {key: value for section in _SECTIONS for key, value in merged[section].items() if value}
    variables = ((key, value) for key, value in environment.items() if key.startswith("PIP_") and value)
    return found | {_name(key.removeprefix("PIP_")): value for key, value in variables if key not in _NO_OPTIONS}


def config_files(environment: Mapping[str, str], prefix: Path) -> Iterator[Path]:
    """Where pip looks, lowest precedence first: machine, user, Python installation, PIP_CONFIG_FILE.

    If PIP_CONFIG_FILE names a file that exists, pip does not read the user's files.
    """
    explicit = environment.get("PIP_CONFIG_FILE")
    if explicit == os.devnull:
        return
    home = Path(environment.get("HOME") or Path.home())
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    else:
        for folder in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
            yield Path(folder, "pip", "pip.conf")
        yield Path("/etc/pip.conf")
    if not (explicit and Path(explicit).exists()):
        yield home / ".pip" / "pip.conf"
        yield _user_folder(environment, home) / "pip" / "pip.conf"
    yield prefix / "pip.conf"
    if explicit:
        yield Path(explicit)


def _user_folder(environment: Mapping[str, str], home: Path) -> Path:
    if sys.platform == "darwin" and (home / "Library/Application Support/pip").is_dir():
        return home / "Library/Application Support"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config")


def _read(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}  # like pip: a file that cannot be opened configures nothing
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser's own message quotes the line, which may hold a password.
        hint = "run `pip config debug` to see the mistake"
        raise UsageError(f"`{path}` is not a valid pip configuration file", hint=hint) from error
    return {section: {_name(key): value for key, value in parser.items(section)} for section in parser.sections()}


def _name(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")
