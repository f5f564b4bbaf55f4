"""The metadata of a copy: owner, mode, xattrs and times of the original, in the order in which none undoes another."""

import errno
import os
import stat
from typing import Final

from layerfs.sys import dirs, target
from layerfs.union.acl import ACCESS_ACL, without_acl
from layerfs.union.escape import is_copied
from layerfs.union.layers import Ref, Tree, getxattr_or_none, xattrs
from layerfs.union.state import Attributes, Writable

_NO_XATTR: Final = {errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOSYS}
SXID: Final = stat.S_ISUID | stat.S_ISGID
CAPABILITY: Final = "security.capability"
OVERRIDDEN_MODE: Final = 0o755  # on disk, when the mode that counts is in an xattr: the server must get in


def copy_metadata(ov: Writable, tree: Tree, source: Ref, path: dirs.Target, st: Attributes) -> None:
    """Give a copy its original's owner, mode, xattrs and times, in the order in which none undoes another.

    What lends rights to a program's users (setuid, setgid, capabilities) is kept only with the owner: a layer is
    a stranger's, and the copy would lend the rights of whoever serves it.
    """
    owners = ov.owners
    stored = owners.stored(tree, source, st)
    mode = stat.S_IMODE(stored.st_mode)
    link = stat.S_ISLNK(st.st_mode)
    given = owners.override is not None or _is_made_so(stored) or owners.give(path, stored.st_uid, stored.st_gid)
    if mode & SXID and not (given and (os.geteuid() == 0 or tree.lends_rights())):
        mode &= ~SXID
    lost = _copy_xattrs(tree, source, path, capabilities=given)
    if lost is not None:
        mode = without_acl(mode, lost)
    if not link:  # last: chown takes setuid, and what may not be written takes no xattrs
        kept = owners.write(path, stored.st_uid, stored.st_gid, stat.S_IFMT(st.st_mode) | mode)
        target.chmod(path, OVERRIDDEN_MODE if kept else mode)
    target.utime(path, st.st_atime_ns, st.st_mtime_ns)


def _is_made_so(st: Attributes) -> bool:
    """Tell whether what the server makes has the right owner from the start."""
    return st.st_uid == os.geteuid() and st.st_gid == os.getegid()


def _copy_xattrs(tree: Tree, source: Ref, path: dirs.Target, *, capabilities: bool) -> bytes | None:
    """Copy extended attributes, as far as the upper can have them. Returns an access ACL that it cannot have."""
    lost = None
    for name in xattrs(tree, source):
        if not is_copied(name) or (name == CAPABILITY and not capabilities):
            continue
        value = getxattr_or_none(tree, source, name)
        if value is None:
            continue
        try:
            target.setxattr(path, name, value)
        except OSError as error:
            if error.errno not in _NO_XATTR:  # labels of another security domain, or an upper without xattrs
                raise
            lost = value if name == ACCESS_ACL else lost
    return lost
