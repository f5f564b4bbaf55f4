"""Fresh data on disk before a rename: by the journal where there is one, by fsync elsewhere."""

import os
from pathlib import Path

import pytest

from layerfs.sys import durable


def test_settle_takes_any_filesystem(scratch: Path) -> None:
    for place in (scratch, Path("/dev/shm")):
        fd = os.open(place, os.O_TMPFILE | os.O_RDWR)
        os.write(fd, b"x")
        durable.start_writeback(fd)
        durable.wait_for_range(fd, 0, 1)
        durable.make_durable(fd)
        os.close(fd)


@pytest.mark.parametrize("journal", [True, False])
def test_a_magic_number_is_no_journal(scratch: Path, monkeypatch: pytest.MonkeyPatch, journal: bool) -> None:
    """On ext4 without a journal a file that was only opened for writing came back empty after a power cut."""
    fd = os.open(scratch, os.O_TMPFILE | os.O_RDWR)
    try:
        device = os.fstat(fd).st_dev
        (scratch / "devices").mkdir()
        os.symlink("../../block/sdz1", scratch / f"devices/{os.major(device)}:{os.minor(device)}")
        (scratch / f"journals/{'sdz1-8' if journal else 'sdy-8'}").mkdir(parents=True)
        monkeypatch.setattr(durable, "DEVICES", str(scratch / "devices"))
        monkeypatch.setattr(durable, "JOURNALS", str(scratch / "journals"))
        assert durable.keeps_order(fd) is journal
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        durable.make_durable(fd)
        assert bool(synced) is not journal
        monkeypatch.setattr(durable, "DEVICES", str(scratch / "nowhere"))
        assert not durable.keeps_order(fd)
    finally:
        os.close(fd)
