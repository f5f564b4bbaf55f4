"""The child that has the kernel write back; tests/semantics/test_extents.py has it on a mount."""

import errno
import os
from contextlib import closing

import pytest

from layerfs.fuse.flushing import Flusher


async def test_a_mountpoint_that_is_no_fuse_mount_is_an_error(scratch: object) -> None:
    with closing(Flusher(os.fsencode(str(scratch)))) as flusher:
        for _ in range(2):
            with pytest.raises(OSError, match="not at its mountpoint") as caught:
                await flusher.flush()
            assert caught.value.errno == errno.EINVAL
        children = flusher._child
    with pytest.raises(ChildProcessError):
        os.waitpid(children, 0)


async def test_a_child_that_was_killed_is_an_error() -> None:
    with closing(Flusher(b"/")) as flusher:
        with pytest.raises(OSError):
            await flusher.flush()
        os.kill(flusher._child, 9)
        with pytest.raises(OSError) as caught:
            await flusher.flush()
        assert caught.value.errno == errno.EINVAL
