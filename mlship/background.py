"""Work in a thread, beside other work; at exit, nothing waits for an answer that no one needs, or that never comes."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> Future[T]:
    """Start the work. Its result, or its error, is raised where it is asked for."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()  # a thread of a pool would keep Python from ending
    return answer
