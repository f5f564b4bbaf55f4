"""What an exception is to the kernel."""

import errno

import pytest

from layerfs.fuse.failures import answered


def test_what_is_not_asked_through_pyfuse3_is_guarded_too(caplog: pytest.LogCaptureFixture) -> None:
    def work(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 5

    assert answered(work, None) == (0, 5)
    assert answered(work, OSError(errno.ENOSPC, "full")) == (errno.ENOSPC, 0)
    assert answered(work, OSError(524, "the kernel's own")) == (errno.EIO, 0)
    assert not caplog.records
    assert answered(work, ZeroDivisionError()) == (errno.EIO, 0)
    assert "failed" in caplog.text
