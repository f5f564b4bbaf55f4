"""Marks as they are read, and as an upper takes them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from layerfs.union.whiteout import DirMarks, Marks, has_file_form, is_marker_name, is_name, is_private, marks_of


@pytest.mark.parametrize(
    ("xattrs", "marks"),
    [
        ({}, DirMarks()),
        ({"trusted.overlay.opaque": b"y"}, DirMarks(opaque=True)),
        ({"user.overlay.opaque": b"x"}, DirMarks(xattr_whiteouts=True)),
        ({"user.fuseoverlayfs.opaque": b"y"}, DirMarks(opaque=True)),
        ({"trusted.overlay.opaque": b"n"}, DirMarks()),
        ({"trusted.overlay.redirect": b"/a/b"}, DirMarks(redirect=b"/a/b")),
        ({"trusted.overlay.redirect": b"../a"}, DirMarks()),
        ({"trusted.overlay.redirect": b"/a//b"}, DirMarks()),
        ({"trusted.overlay.overlay.opaque": b"y"}, DirMarks()),
    ],
)
def test_marks_of_a_directory(xattrs: dict[str, bytes], marks: DirMarks) -> None:
    assert marks_of(list(xattrs), xattrs.get) == marks


def test_names_that_are_marks() -> None:
    assert is_marker_name(b".wh.x") and not is_marker_name(b".whx")
    assert has_file_form(b"n" * 251) and not has_file_form(b"n" * 252)
    assert [is_name(name) for name in (b"a", b"", b".", b"..", b"a/b", b"n" * 256)] == [True, *[False] * 5]
    assert is_private("trusted.overlay.opaque") and not is_private("trusted.overlayed")


@pytest.fixture
def scratch_fd(scratch: Path) -> int:
    return os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def test_whiteouts_are_links_of_one_device(scratch: Path, scratch_fd: int) -> None:
    try:
        marks = Marks(scratch_fd)
        assert marks.devices and marks.can_hide
        for name in (b"a", b"b"):
            marks.make(scratch_fd, name)
        first, second = os.lstat(scratch / "a"), os.lstat(scratch / "b")
        assert stat.S_ISCHR(first.st_mode) and first.st_rdev == 0 and os.path.samestat(first, second)
        with pytest.raises(FileExistsError):
            marks.make(scratch_fd, b"a")
    finally:
        os.close(scratch_fd)


@pytest.mark.parametrize("code", [errno.EMLINK, errno.EPERM, errno.ENOSYS])
def test_whiteouts_without_links_are_devices_of_their_own(
    scratch: Path, scratch_fd: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    try:
        marks = Marks(scratch_fd)
        monkeypatch.setattr(os, "link", refuse)
        for name in (b"a", b"b"):
            marks.make(scratch_fd, name)
        assert not os.path.samestat(os.lstat(scratch / "a"), os.lstat(scratch / "b"))
    finally:
        os.close(scratch_fd)
