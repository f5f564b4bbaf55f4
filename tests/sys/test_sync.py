"""Filesystems: their type, and syncs."""

import errno
import os
from pathlib import Path

import pytest

from layerfs.sys.sync import filesystem_type, sync_filesystem, sync_names, syncfs


def test_names_of_a_directory_are_synced(scratch: Path) -> None:
    sync_names(os.fsencode(scratch))
    with pytest.raises(NotADirectoryError):
        sync_names(b"/dev/null")


def test_sync_wants_a_directory_that_is_there(scratch: Path) -> None:
    sync_filesystem(os.fsencode(scratch))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(os.fsencode(scratch / "absent"))


def test_filesystem_of_a_descriptor_is_written_back(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    os.close(fd)


def test_only_a_fuse_mount_is_written_back_where_only_that_is_meant(tmp_path: Path) -> None:
    sync_filesystem(bytes(tmp_path))
    with pytest.raises(OSError) as caught:
        sync_filesystem(bytes(tmp_path), only_fuse=True)
    assert caught.value.errno == errno.ENODEV
    fd = os.open("/proc", os.O_RDONLY)
    assert filesystem_type(fd) == filesystem_type(b"/proc") == 0x9FA0  # PROC_SUPER_MAGIC
    os.close(fd)
