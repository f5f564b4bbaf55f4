"""The root directory of a new layer, made to look like that of the layer below it.

A merged directory shows the metadata of its topmost layer, and a root always has one in the new layer, empty as that
is.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from layerfs.sys import dirs, target

if TYPE_CHECKING:
    from layerfs.union.shown import Attributes

_NOT_HERE = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)  # another security domain's labels, or none are kept
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = 0o755  # the mode of a root that has nothing below it


def make_root(path: bytes, below: bytes | None) -> None:
    """Make a root directory; with a layer below, it gets the mode, owner, xattrs and times of that root. OSError."""
    os.mkdir(path, 0o700)
    if below is None:
        os.chmod(path, PLAIN)
        return
    try:
        fd = os.open(below, _DIRECTORY)
    except NotADirectoryError:
        st = _copy_from_image(below, path)
    else:
        st = _copy_from_directory(fd, path)
    os.chmod(path, stat.S_IMODE(st.st_mode))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def _copy_from_directory(fd: int, path: bytes) -> os.stat_result:
    """Copy owner and xattrs from an open directory, and close it."""
    try:
        st = os.fstat(fd)
        _chown(path, st)
        here = dirs.held(fd)
        names = _names(lambda: target.listxattr(here))
        if names:
            _set_xattrs(path, names, lambda name: target.getxattr(here, name))
        return st
    finally:
        os.close(fd)


def _copy_from_image(below: bytes, path: bytes) -> "Attributes":
    """Copy owner and xattrs from the root of an image."""
    from layerfs.lowers.kinds import open_tree  # with the union's words 5 ms, which directories need not pay

    with closing(open_tree(below, 0)) as tree:
        st = tree.stat_dir(tree.root())
        ref = tree.reach_dir(tree.root())
        _chown(path, st)
        _set_xattrs(path, _names(lambda: tree.listxattr(ref)), lambda name: tree.getxattr(ref, name))
        return st


def _chown(path: bytes, st: "Attributes") -> None:
    """Set the owner. Without root it stays ours, as does everything that is unpacked then."""
    if (st.st_uid, st.st_gid) == (os.geteuid(), os.getegid()):
        return
    try:
        os.chown(path, st.st_uid, st.st_gid)
    except PermissionError:
        if os.geteuid() == 0:
            raise


def _names(ask: Callable[[], list[str]]) -> list[str]:
    try:
        return ask()
    except OSError as error:
        if error.errno in _NOT_HERE:
            return []
        raise


def _set_xattrs(path: bytes, names: list[str], read: Callable[[str], bytes]) -> None:
    """Set the xattrs that mounts show; marks of overlays are not copied."""
    from layerfs.union.escape import shown

    for name in names:
        if shown(name) is None:
            continue
        try:
            os.setxattr(path, name, read(name))
        except OSError as error:
            if error.errno not in _NOT_HERE or name.startswith("system.posix_acl"):
                raise
