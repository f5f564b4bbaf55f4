"""How mounts are: records crossed with what is there; whoever does not answer keeps nobody."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.fuse.mount import attach
from layerfs.mounts.health import MEANINGS, Health, MountState, _heard, owner_of, survey
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mounts import mountinfo, unmount
from tests.host import require


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (0, Health.SERVING),
        (errno.EACCES, Health.SERVING),
        (errno.ENOTCONN, Health.DEAD),
        (errno.ECONNABORTED, Health.DEAD),
        (errno.EIO, Health.SILENT),
        (None, Health.SILENT),
    ],
)
def test_an_answer_says_how_a_mount_is(answer: int | None, health: Health) -> None:
    assert _heard(answer) is health


def test_every_word_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Health)


def test_a_mount_without_a_record_that_answers_nothing_is_silent_and_its_owner_known(scratch: Path) -> None:
    require("root", "fuse")
    device = attach(bytes(scratch), AttachOptions())
    try:
        (info,) = [info for info in mountinfo() if info.target == bytes(scratch)]
        assert owner_of(info) == 0
        (state,) = [state for state in survey(0.2) if state.mountpoint == bytes(scratch)]
        assert state == MountState(bytes(scratch), Health.SILENT, None, 0)
    finally:
        os.close(device)
    (state,) = [state for state in survey(5) if state.mountpoint == bytes(scratch)]
    assert state.health is Health.DEAD
    unmount(bytes(scratch), lazy=True)


def test_other_filesystems_have_no_owner() -> None:
    assert owner_of(mountinfo()[0]) is None
