"""Replacing what is at a name of the upper atomically: at no moment does the lower name show.

One rename does it where the upper's filesystem has RENAME_EXCHANGE and RENAME_WHITEOUT. Others (FUSE filesystems, NFS)
say EINVAL. There a file `.wh.NAME` hides the lowers for as long as the name is vacant, so a crash leaves old or new, or
nothing at the name. Where there can be no such file, the name is vacant for a moment.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from layerfs.sys import dirs
from layerfs.union.listing import Listing, Whiteout
from layerfs.union.state import Writable
from layerfs.union.whiteout import WH, has_file_form, make_mark_file

NO_FLAG = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))  # a filesystem without flags of renameat2(2)


def can_put_aside(ov: Writable) -> bool:
    """Tell whether an empty, opaque directory can take another one's place in one step."""
    if not ov.upper.marks.xattrs:
        return False
    scratch, names = ov.upper.work.fd, (ov.upper.work.name(), ov.upper.work.name())
    try:
        for name in names:
            os.mkdir(name, 0o700, dir_fd=scratch)
        dirs.move(scratch, names[0], scratch, names[1], dirs.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in NO_FLAG:
            raise
        return False
    finally:
        for name in names:
            dirs.remove(scratch, name)
    return True


def make_file_whiteout(at: int, name: bytes) -> None:
    """Make a `.wh.NAME` file, where devices cannot be made."""
    make_mark_file(at, WH + name)


def _hide(at: int, name: bytes) -> bool:
    """Make a `.wh.NAME` file; False where none can be: the name is too long, or the upper refuses such names.

    An upper inside another mount of layerfs or fuse-overlayfs does, with EPERM or EINVAL.
    """
    if not has_file_form(name):
        return False
    try:
        make_file_whiteout(at, name)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise
        return False
    return True


@contextmanager
def hidden(at: int, name: bytes) -> Iterator[None]:
    """Hide what the lowers have at a name while the upper's entry changes; after a failure it stays hidden."""
    is_hidden = _hide(at, name)
    yield
    if is_hidden:
        dirs.remove(at, WH + name)


def stage_whiteout(ov: Writable, home: int) -> bytes:
    """Make a whiteout in the scratch directory that may be moved to any name in `home`."""
    temporary = ov.upper.work.name()
    if ov.upper.marks.devices:
        ov.upper.marks.make(ov.upper.work.fd, temporary)
    else:
        ov.upper.marks.make_by_xattr(temporary, home)
    return temporary


def put_whiteout(ov: Writable, at: int, listing: Listing, name: bytes) -> None:
    """Put a whiteout that is no `.wh.` file at a name where a file is, or nothing."""
    temporary = stage_whiteout(ov, at)
    os.rename(temporary, name, src_dir_fd=ov.upper.work.fd, dst_dir_fd=at)
    listing.whiteout_made(name, Whiteout.AT_NAME)


def directory_by_whiteout(ov: Writable, at: int, listing: Listing, name: bytes) -> bytes:
    """Replace a directory that shows nothing by a whiteout; return the directory's name in the scratch directory."""
    scratch, marks = ov.upper.work.fd, ov.upper.marks
    aside = ov.upper.work.name()
    if not marks.devices and has_file_form(name):
        make_file_whiteout(at, name)
        dirs.move(at, name, scratch, aside)
        listing.whiteout_made(name, Whiteout.BESIDE)
        return aside
    temporary = stage_whiteout(ov, at)
    try:
        dirs.move(scratch, temporary, at, name, dirs.RENAME_EXCHANGE)
        aside = temporary
    except OSError as error:
        if error.errno not in NO_FLAG:
            raise
        with hidden(at, name):
            dirs.move(at, name, scratch, aside)
            os.rename(temporary, name, src_dir_fd=scratch, dst_dir_fd=at)
    listing.whiteout_made(name, Whiteout.AT_NAME)
    return aside


def whiteout_by(at: int, name: bytes, to: int, new: bytes) -> None:
    """Replace the whiteout at `new` in `to` by a staged object; its staging directory `at` is removed."""
    try:
        os.rename(name, new, src_dir_fd=at, dst_dir_fd=to)
        return
    except NotADirectoryError:
        pass  # a directory replaces no file by a plain rename
    try:
        dirs.move(at, name, to, new, dirs.RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in NO_FLAG:
            raise
        with hidden(to, new):
            os.unlink(new, dir_fd=to)
            dirs.move(at, name, to, new)


def move_leaving_whiteout(ov: Writable, at: int, name: bytes, to: int, new: bytes) -> Whiteout:
    """Rename, leaving a whiteout at the old name; the upper can have devices. Returns which whiteout is there."""
    try:
        dirs.move(at, name, to, new, dirs.RENAME_WHITEOUT)
        return Whiteout.AT_NAME
    except OSError as error:
        if error.errno not in NO_FLAG:
            raise
    beside = _hide(at, name)
    dirs.move(at, name, to, new)
    try:
        ov.upper.marks.make(at, name)
    except OSError:  # ENOSPC: the file does as well
        if not beside:
            raise
        return Whiteout.BESIDE
    if beside:
        dirs.remove(at, WH + name)
    return Whiteout.AT_NAME
