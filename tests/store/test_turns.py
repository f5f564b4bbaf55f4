"""Turns are given in order, and an advisory one is passed by where somebody keeps it for long."""

import threading
from collections.abc import Callable

import pytest

from layerfs.store.turns import SLOW, AdvisoryTurns, Turns, in_turn, in_turn_to_read
from tests.waiting import wait_until

MANY = 8


def wait_in_order(turns: Turns, acts: list[Callable[[], object]]) -> list[threading.Thread]:
    """Have threads wait in this order for a turn that the caller has."""
    threads = []
    for act in acts:
        waiting = len(turns._waiting)
        threads.append(threading.Thread(target=act))
        threads[-1].start()
        wait_until(lambda waiting=waiting: len(turns._waiting) > waiting)  # type: ignore[misc]
    return threads


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    turns, done, at_once = Turns(), [], []

    def ask(number: int) -> None:
        with turns:
            at_once.append(number)
            assert len(at_once) == 1
            done.append(number)
            at_once.remove(number)

    with turns:
        threads = wait_in_order(turns, [lambda number=number: ask(number) for number in range(MANY)])  # type: ignore[misc]
        assert done == []
    for thread in threads:
        thread.join()
    assert done == list(range(MANY))


@pytest.mark.parametrize("has_turn", [False, True], ids=["waits", "was just given it"])
def test_who_is_interrupted_while_it_waits_has_no_turn_and_keeps_nobody(
    has_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = Turns()

    def interrupted(ticket: object) -> None:
        if has_turn:
            turns.leave()
        raise KeyboardInterrupt

    turns.__enter__()
    monkeypatch.setattr(turns, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turns.__enter__()
    turns.leave()
    assert turns._holder is None
    assert not turns._waiting


def test_turn_that_was_left_early_is_not_left_again_for_another() -> None:
    turns, goes_on = Turns(), threading.Event()

    def have() -> None:
        with turns:
            goes_on.wait()

    with turns:
        [thread] = wait_in_order(turns, [have])
        turns.leave()
    assert turns._holder is not None
    assert turns._holder.thread == thread.ident
    goes_on.set()
    thread.join()
    assert turns._holder is None


def test_who_keeps_an_advisory_turn_for_long_is_passed_by() -> None:
    turns, said = AdvisoryTurns(), []

    def go(number: int) -> None:
        with turns:
            said.append(number)

    with turns:  # for as long as it takes
        threads = [threading.Thread(target=go, args=(number,)) for number in range(MANY)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(said) == list(range(MANY))
    assert turns._holder is None


def test_turns_are_slow_until_some_were_short(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = AdvisoryTurns()
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_is_long", lambda holder: True)
        with turns:
            pass
    monkeypatch.setattr(turns, "_is_long", lambda holder: False)
    for _ in range(SLOW):
        assert turns.is_slow
        with turns:
            turns.aside(lambda: None)
            assert turns._holder is None, "it was left for what may wait for the disk"
    assert not turns.is_slow
    with turns:
        assert turns.aside(lambda word: f"{word} {turns._holder is None}", "left:") == "left: False"


def test_method_in_turn_has_the_turn_and_keeps_its_arguments() -> None:
    class Subject:
        def __init__(self) -> None:
            self.steps = AdvisoryTurns()

        @in_turn
        def act(self, word: str, *, fails: bool = False) -> str:
            """Act."""
            assert self.steps._holder is not None
            if fails:
                raise KeyError(word)
            return word

        @in_turn_to_read
        def read(self) -> bool:
            """Tell whether somebody has the turn."""
            return self.steps._holder is not None

    subject = Subject()
    assert subject.read()
    subject.steps._slow = 1
    assert not subject.read()
    assert subject.act("word") == "word"
    with pytest.raises(KeyError):
        subject.act("word", fails=True)
    assert subject.steps._holder is None
    assert (Subject.act.__name__, Subject.act.__doc__) == ("act", "Act.")
