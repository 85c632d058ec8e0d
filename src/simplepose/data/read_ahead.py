"""Threads that work ahead: results in the order of the jobs, a bounded number of them waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int
) -> Iterator[Result]:
    """Yields `function(job)` of each job, in order; when the loop over it ends early, what has not begun is dropped and the rest waited for.

    Args:
        function: called by the threads.
        jobs: taken one by one.
        workers: threads, at least one.
        ahead: jobs that are begun or done while one result is used.

    Raises:
        Exception: what `function` raised, in the turn of its job.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="ahead") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
