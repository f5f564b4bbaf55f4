"""Attempts in a child that ends with them."""

import errno
import os

import pytest

from layerfs.sys.mountprobe import apart
from layerfs.sys.probe import Absent


def test_what_an_attempt_returns_is_heard() -> None:
    here = os.getpid()
    assert apart(lambda: f"not {os.getpid() == here}") == "not False"


def test_an_attempt_that_fails_says_why_and_what_to_do() -> None:
    def refused() -> str:
        raise Absent("no such thing", "get one")

    with pytest.raises(Absent) as caught:
        apart(refused)
    assert (caught.value.why, caught.value.remedy) == ("no such thing", "get one")


def test_an_attempt_whose_child_dies_is_no_success() -> None:
    with pytest.raises(Absent, match="without a word"):
        apart(lambda: os._exit(0))


def test_an_error_of_the_system_is_told_with_its_path() -> None:
    def missing() -> str:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), b"/nowhere")

    with pytest.raises(Absent, match=r"No such file or directory \(/nowhere\)"):
        apart(missing)
