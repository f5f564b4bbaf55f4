"""The end of a shared mount: nobody loses one that they look at."""

from pathlib import Path

import pytest

from layerfs.xarexec import serve
from layerfs.xarexec.home import locked


def test_who_looks_at_a_mount_keeps_its_server(root: Path) -> None:
    path = bytes(root / "mountpoint")
    with locked(path):
        assert serve.leave(path, lambda: pytest.fail("asked without the lock")) is False


def test_a_mount_that_was_used_meanwhile_stays(root: Path) -> None:
    path = bytes(root / "mountpoint")
    assert serve.leave(path, lambda: False) is False
    with locked(path, wait=False):  # and the lock is free again
        pass
