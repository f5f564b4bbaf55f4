"""Turns are given in order, and work is done once, by whoever has the turn."""

import threading
from collections.abc import Callable

import pytest

from layerfs.store.turns import MOST, Turns

MANY = 3 * MOST


def together(turns: Turns, acts: list[Callable[[], object]]) -> list[threading.Thread]:
    """Have threads wait in this order for a turn that the caller has."""
    threads = []
    for act in acts:
        waiting = len(turns._waiting)
        threads.append(threading.Thread(target=act))
        threads[-1].start()
        while len(turns._waiting) == waiting:
            pass
    return threads


def test_work_is_done_once_and_in_order_by_few_threads() -> None:
    turns, done, by = Turns(), [], set()

    def work(number: int) -> int:
        by.add(threading.get_ident())
        done.append(number)
        return number

    results = {}

    def ask(number: int) -> None:
        results[number] = turns.do(lambda: work(number))

    with turns:
        threads = together(turns, [lambda number=number: ask(number) for number in range(MANY)])  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert done == list(range(MANY))
    assert results == {number: number for number in range(MANY)}
    assert len(by) < MANY / 2


def test_who_wants_the_turn_itself_gets_it_between_others_work() -> None:
    turns, said = Turns(), []

    def have() -> None:
        with turns:
            said.append("had")

    def work() -> None:
        turns.do(lambda: said.append("done"))

    with turns:
        threads = together(turns, [work, have, work])
    for thread in threads:
        thread.join()
    assert said == ["done", "had", "done"]


def test_error_goes_to_who_asked() -> None:
    turns, raised = Turns(), []

    def fail() -> None:
        raise KeyError(threading.get_ident())

    def ask() -> None:
        with pytest.raises(KeyError):
            turns.do(fail)
        raised.append(True)

    with turns:
        threads = together(turns, [ask, ask, ask])
    for thread in threads:
        thread.join()
    assert raised == [True] * 3
    with pytest.raises(KeyError):
        turns.do(fail)
    assert turns.do(lambda: 1) == 1


def test_who_is_interrupted_while_it_does_anothers_work_leaves_that_to_the_other() -> None:
    turns, tries = Turns(), []

    def interrupted() -> str:
        tries.append(threading.current_thread().name)
        if len(tries) == 1:
            raise KeyboardInterrupt
        return "done"

    said = []

    def first() -> None:
        with pytest.raises(KeyboardInterrupt):
            turns.do(lambda: said.append("own"))

    with turns:
        threads = together(turns, [first, lambda: said.append(turns.do(interrupted))])
    for thread in threads:
        thread.join()
    assert said == ["own", "done"]
    assert len(set(tries)) == 2
    assert turns.do(lambda: 1) == 1
