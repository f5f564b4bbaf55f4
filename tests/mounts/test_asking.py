"""What is said to who asked for a mount."""

import os
from collections.abc import Iterator

import pytest

from layerfs.mounts import asking
from layerfs.mounts.asking import Decline


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    heard, said = os.pipe()
    yield heard, said
    asking.forget_asker()
    os.close(heard)


def test_nobody_asked_and_nobody_is_told() -> None:
    asking.decline_if_asked()
    asking.tell_begun()
    assert asking.asker() < 0
    assert not asking.tell_end(0)


def test_who_asked_hears_of_the_beginning_and_of_the_end(ends: tuple[int, int]) -> None:
    heard, said = ends
    asking.is_asked_by(said)
    asking.tell_begun()
    assert asking.tell_end(3)
    assert os.read(heard, 10) == asking.BEGUN + asking.ENDED + b"\3"
    assert os.read(heard, 10) == b""
    assert not asking.tell_end(0)


def test_who_asked_is_declined(ends: tuple[int, int]) -> None:
    asking.is_asked_by(ends[1])
    with pytest.raises(Decline):
        asking.decline_if_asked()
