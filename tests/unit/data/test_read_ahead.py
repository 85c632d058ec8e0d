"""Work ahead of a loop: order, bound, errors in their turn, and what happens to the rest when the loop ends early."""

from __future__ import annotations

import threading
import time

import pytest

from simplepose.data.pictures import in_order


def busy() -> bool:
    return any(thread.name.startswith("ahead") for thread in threading.enumerate())


def slow_first(number: int) -> int:
    time.sleep(0.05 if number == 0 else 0)
    return number * 10


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_order(count: int, workers: int) -> None:
    assert list(in_order(slow_first, range(count), workers, 2)) == [
        number * 10 for number in range(count)
    ]
    assert not busy()


def test_no_more_than_so_many_are_begun() -> None:
    begun: list[int] = []
    results = in_order(begun.append, range(10), 1, 3)
    assert not begun
    next(results)
    time.sleep(0.05)
    assert begun == [0, 1, 2, 3]
    results.close()


def test_an_error_comes_in_its_turn() -> None:
    def fail_at_2(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    seen = []
    with pytest.raises(ValueError, match="two"):
        for number in in_order(fail_at_2, range(10), 4, 8):
            seen.append(number)
    assert seen == [0, 1] and not busy()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_loop_that_ends_early_drops_what_has_not_begun(error: type[BaseException]) -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.02)

    with pytest.raises(error):
        for _ in in_order(work, range(100), 1, 50):
            raise error
    assert not busy() and len(begun) < 10
