"""What a caller is to a file's group."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from layerfs.fuse.callers import who_is
from layerfs.union.setid import Who


def context(uid: int, gid: int, pid: int) -> Any:
    """A request's caller; pyfuse3's own cannot be filled in."""
    return SimpleNamespace(uid=uid, gid=gid, pid=pid)


@pytest.mark.parametrize(("uid", "gid", "who"), [(0, 9, Who.PRIVILEGED), (1, 5, Who.MEMBER), (1, 9, Who.OUTSIDER)])
def test_root_is_privileged_and_the_group_counts(uid: int, gid: int, who: Who) -> None:
    assert who_is(context(uid, gid, 0), 5) is who


def test_supplementary_groups_count_where_the_process_is_seen() -> None:
    for group in os.getgroups():
        assert who_is(context(1, group + 1, os.getpid()), group) is Who.MEMBER
    assert who_is(context(1, 1, os.getpid()), 1 << 30) is Who.OUTSIDER


def test_groups_are_not_those_of_another_process_with_that_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerfs.fuse.callers.names_alike", lambda: False)
    for group in os.getgroups():
        assert who_is(context(1, group + 1, os.getpid()), group) is Who.OUTSIDER
