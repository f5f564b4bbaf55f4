"""Inode numbers of objects without xattrs: symlinks, FIFOs, sockets and devices that were copied up without root.

Their directory in the upper keeps them: "OWN:NUMBER OWN:NUMBER", OWN being an upper object's own inode number. An entry
counts only for that very inode, so one that is outdated harms nobody. The newest LIMIT entries are kept, which is what
ext4 has room for; beyond that such a number changes at the next mount.
"""

import errno
import os
import stat

from layerfs.sys import dirs
from layerfs.union.digits import KEPT_MAX, kept
from layerfs.union.inodes import File
from layerfs.union.layers import Part
from layerfs.union.state import Attributes, Overlay, Writable

KEPT_XATTR = "layerfs.inos"  # below the marks' prefix
LIMIT = 100
_REFUSED = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE}


def keep_beside(ov: Writable, node: File, part: Part, name: bytes) -> None:
    """Store the number of an upper file that can have no xattr in its directory, for one of its names.

    A number is not worth failing for.
    """
    if node.ino > KEPT_MAX or not _is_needed(ov, node.kind << 12):
        return
    at = ov.fd(part)
    st = os.lstat(name, dir_fd=at)
    if ov.numbers.of(st.st_dev, st.st_ino) == node.ino:
        return
    entries = [entry for entry in _entries(ov, at) if not entry.startswith(b"%d:" % st.st_ino)]
    entries.append(b"%d:%d" % (st.st_ino, node.ino))
    try:
        dirs.set_own_xattr(at, ov.upper.marks.prefix + KEPT_XATTR, b" ".join(entries[-LIMIT:]))
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def kept_beside(ov: Overlay, at: int, st: Attributes) -> int | None:
    """Return the number that an upper directory keeps for one of its names."""
    if not _is_needed(ov, st.st_mode):
        return None
    own = b"%d" % st.st_ino
    for entry in _entries(ov, at):
        inode, _, number = entry.partition(b":")
        if inode == own:
            return kept(number)
    return None


def _is_needed(ov: Overlay, mode: int) -> bool:
    return ov.upper is not None and ov.upper.marks.xattrs and not ov.upper.marks.trusted and not stat.S_ISREG(mode)


def _entries(ov: Overlay, at: int) -> list[bytes]:
    if ov.upper is None:
        return []
    return (dirs.getxattr_or_none(at, ov.upper.marks.prefix + KEPT_XATTR) or b"").split()
