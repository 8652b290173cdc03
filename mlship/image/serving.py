"""What a server command tells about the processes that it makes. Pure."""

from collections.abc import Sequence

from mlship.project.commands import program

_FORKING = {"gunicorn", "uwsgi", "supervisord", "honcho"}
_WORKER_FLAGS = ("--workers", "-w")


def forks(command: Sequence[str]) -> bool:
    """The server runs its workers as child processes, so somebody must reap what they leave."""
    return program(command) in _FORKING or _workers(command) > 1


def _workers(command: Sequence[str]) -> int:
    """The number of workers that the command asks for; 1 where it does not say."""
    for index, word in enumerate(command):
        flag, separator, value = word.partition("=")
        if flag in _WORKER_FLAGS:
            value = value if separator else "".join(command[index + 1 : index + 2])
            return int(value) if value.isdecimal() else 1
    return 1
