"""Work in a thread that ends with it, so that torch keeps none of the thread's helpers."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_own_thread(work: Callable[[], Result]) -> Result:
    """
    What a function returns or raises, called in a thread of its own, which has ended then. An interrupt does not wait for it.

    OpenMP gives each thread that computes helpers of its own, and keeps them. When all of a process are more than the
    processor's cores, they sleep between two operations in the place of waiting awake: a server whose main thread had loaded
    the model took a quarter longer to write. So the thread that writes is to be the only one with helpers.

    Args:
        work (`Callable`): Takes no arguments.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            # It is raised where it is waited for.
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="loading", daemon=True)
    thread.start()
    error = outcome.exception()
    thread.join()
    if error is not None:
        raise error
    return outcome.result()
