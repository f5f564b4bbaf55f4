"""What only some files have: their open data outlives whoever uses it."""

import os
from pathlib import Path

import pytest

from layerfs.union.open_state import Opened


def opened(place: Path) -> tuple[Opened, int]:
    state = Opened()
    state.data = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    return state, state.data


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_data_are_closed_when_no_thread_uses_them(scratch: Path) -> None:
    state, fd = opened(scratch)
    assert state.is_held
    state.retire()
    assert not is_open(fd)
    assert not state.is_held


@pytest.mark.parametrize("threads", [1, 2])
def test_data_that_a_thread_uses_are_closed_later(threads: int, scratch: Path) -> None:
    state, fd = opened(scratch)
    state.busy = threads
    state.retire()
    assert is_open(fd)
    state.close_retired()
    assert not is_open(fd)
    assert state.retired == []


def test_a_pin_holds_a_file_until_it_is_taken_back(scratch: Path) -> None:
    state, fd = opened(scratch)
    state.data, state.pinned = None, fd
    assert state.is_held
    state.unpin()
    assert not is_open(fd)
    assert not state.is_held
