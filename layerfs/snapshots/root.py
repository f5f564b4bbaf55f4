"""The root directory of a new layer, made to look like that of the layer below it.

A merged directory shows the metadata of its topmost layer, and a root always has one in the new layer, empty as that
is.
"""

import errno
import os
import stat
from contextlib import closing

from layerfs.lowers.kinds import open_tree
from layerfs.union.escape import shown
from layerfs.union.layers import Tree

_NOT_HERE = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)  # another security domain's labels, or none are kept
PLAIN = 0o755  # the mode of a root that has nothing below it


def make_root(path: bytes, below: bytes | None) -> None:
    """Make a directory; with a layer below it, as its root is: mode, owner, xattrs, times. Raises OSError."""
    os.mkdir(path, 0o700)
    if below is None:
        os.chmod(path, PLAIN)
        return
    with closing(open_tree(below, 0)) as tree:
        st = tree.stat_dir(tree.root())
        if (st.st_uid, st.st_gid) != (os.geteuid(), os.getegid()):
            _chown(path, st.st_uid, st.st_gid)
        _copy_xattrs(tree, path)
        os.chmod(path, stat.S_IMODE(st.st_mode))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def _chown(path: bytes, uid: int, gid: int) -> None:
    """Set the owner; who may not keeps what is made, as in all that is unpacked without root."""
    try:
        os.chown(path, uid, gid)
    except PermissionError:
        if os.geteuid() == 0:
            raise


def _copy_xattrs(tree: Tree, path: bytes) -> None:
    ref = tree.reach_dir(tree.root())
    try:
        names = tree.listxattr(ref)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return
        raise
    for name in names:
        if shown(name) is None:
            continue
        try:
            os.setxattr(path, name, tree.getxattr(ref, name))
        except OSError as error:
            if error.errno not in _NOT_HERE or name.startswith("system.posix_acl"):
                raise
