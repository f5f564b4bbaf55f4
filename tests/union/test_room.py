"""What failed for want of a descriptor is tried once more when some were closed."""

import errno
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from layerfs.union.room import with_room
from layerfs.union.state import Overlay


class Asked:
    """Fails with each errno that it is given, then answers."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)
        self.rooms = 0
        self._ov = cast(Overlay, SimpleNamespace(make_room=self._make))

    def _make(self) -> None:
        self.rooms += 1

    @with_room
    def ask(self, *args: Any) -> tuple[Any, ...]:
        """Answer with what is given."""
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return args


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_one_more_try_follows_when_descriptors_ran_out(number: int) -> None:
    asked = Asked(number)
    assert asked.ask(1, "two") == (1, "two")
    assert asked.rooms == 1


TWICE = [errno.EMFILE, errno.EMFILE]


@pytest.mark.parametrize(("failures", "number", "rooms"), [(TWICE, errno.EMFILE, 1), ([errno.ENOENT], errno.ENOENT, 0)])
def test_a_second_failure_and_any_other_error_is_told(failures: list[int], number: int, rooms: int) -> None:
    asked = Asked(*failures)
    with pytest.raises(OSError) as caught:
        asked.ask()
    assert (caught.value.errno, asked.rooms) == (number, rooms)


def test_no_room_is_made_without_need() -> None:
    asked = Asked()
    assert asked.ask() == ()
    assert asked.rooms == 0
