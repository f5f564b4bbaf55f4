"""Changing attributes and extended attributes, of files and directories, named or only open."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from layerfs.sys import dirs, target
from layerfs.union import escape, opened
from layerfs.union.acl import ACCESS_ACL
from layerfs.union.acl import ACLS as ACLS
from layerfs.union.copyup import copy_up, copy_up_directory
from layerfs.union.data import keep_usable, truncate
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.layers import Ref, Tree
from layerfs.union.lookup import attributes, note_shown
from layerfs.union.metadata import OVERRIDDEN_MODE
from layerfs.union.orphans import anchor
from layerfs.union.readdir import parts_of
from layerfs.union.setid import Who, drop, drop_by_acl, killed
from layerfs.union.state import Attributes, Overlay, Writable
from layerfs.value import value


@value
class Change:
    """What setattr sets; None leaves as it is. Times in ns since the epoch, before it negative."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    who: Who = Who.PRIVILEGED  # who else changes a size or an owner takes setuid and setgid


def set_attributes(ov: Writable, node: Node, change: Change) -> Attributes:
    """Change attributes and return what stat then shows."""
    if change.size is not None:
        if not isinstance(node, File):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        truncate(ov, node, change.size)
    with _own(ov, node) as own:
        if isinstance(node, File) and node.extra is not None:
            node.extra.sxid = None
            node.extra.mtime_ns = change.mtime_ns if change.mtime_ns is not None else node.extra.mtime_ns
        if change.size is not None:
            drop(ov, node, own, change.who)
        if change.mode is not None or change.uid is not None or change.gid is not None:
            if isinstance(node, File):
                keep_usable(ov, node)
            _set_owner_and_mode(ov, node, own, change)
        if change.atime_ns is not None or change.mtime_ns is not None:
            st = target.stat(own)
            atime = st.st_atime_ns if change.atime_ns is None else change.atime_ns
            mtime = st.st_mtime_ns if change.mtime_ns is None else change.mtime_ns
            target.utime(own, atime, mtime)
    return attributes(ov, node)


def is_idle(ov: Overlay, node: Node, change: Change) -> bool:
    """Tell whether a change changes nothing: the kernel flushes the times it keeps after each unlink and rename.

    Of a lower file without a name only the kernel shows times; they are not worth copying it up.
    """
    if change != Change(mtime_ns=change.mtime_ns, who=change.who):
        return False
    if isinstance(node, File) and node.part is None and node.tree.index:
        return True
    return change.mtime_ns is None or change.mtime_ns == attributes(ov, node).st_mtime_ns


@contextmanager
def _own(ov: Writable, node: Node) -> Iterator[dirs.Target]:
    """Copy an object up and yield what reaches exactly that object of the upper.

    ESTALE if the name leads to another object by now: the upper may belong to somebody else. A file that is open for
    writing is reached by its descriptor, whatever became of its name.
    """
    if isinstance(node, Directory):
        yield _own_directory(ov, node)
        return
    if not isinstance(node, File):
        raise TypeError(node)
    copy_up(ov, node, data=False)
    if node.part is None:
        yield opened.target(anchor(ov, node))
        return
    if (fd := _open_fd(node)) is not None:
        yield fd
        return
    pin = ov.upper.tree.pin(ov.fd(node.part), node.name, node.is_seen)
    try:
        yield dirs.held(pin)
    finally:
        os.close(pin)


def _own_directory(ov: Writable, node: Directory) -> dirs.Target:
    if not node.dead:
        return dirs.held(ov.fd(copy_up_directory(ov, node)))
    if node.pinned is None or parts_of(ov, node).lowers:  # nowhere to copy it to
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return dirs.held(node.pinned)


def _open_fd(node: File) -> int | None:
    """Return the descriptor that an upper file is written by, if there is one and the file is as the kernel knows it.

    It is the file's own, not that of data in a lower: only a complete file is opened for writing.
    """
    extra = node.extra
    if extra is None or not extra.writable or not isinstance(extra.data, int):
        return None
    return extra.data if node.is_seen(os.fstat(extra.data)) else None


def _set_owner_and_mode(ov: Writable, node: Node, path: dirs.Target, change: Change) -> None:
    """Set the owner first: chown clears setuid and setgid, which a mode in the same request sets again."""
    uid, gid = ov.owners.outside(-1 if change.uid is None else change.uid, -1 if change.gid is None else change.gid)
    is_link = isinstance(node, File) and node.is_symlink
    if ov.owners.override is not None:
        if not is_link:
            _override(ov, path, uid, gid, change.mode)
        return
    if uid >= 0 or gid >= 0:
        if not is_link:
            drop(ov, node, path, change.who)
        ov.owners.change(path, uid, gid)
    if change.mode is not None:
        if is_link:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        target.chmod(path, stat.S_IMODE(change.mode))


def _override(ov: Writable, path: dirs.Target, uid: int, gid: int, mode: int | None) -> None:
    """Write owner and mode into the override xattr."""
    st = target.stat(path)
    old = ov.owners.stored(ov.upper.tree, path, st)
    bits = stat.S_IMODE(old.st_mode) if mode is None else stat.S_IMODE(mode)
    if mode is None and (uid >= 0 or gid >= 0) and not stat.S_ISDIR(st.st_mode):
        bits &= ~killed(stat.S_IFREG | bits, Who.MEMBER)
    kind = stat.S_IFMT(st.st_mode)
    if not ov.owners.write(path, old.st_uid if uid < 0 else uid, old.st_gid if gid < 0 else gid, kind | bits):
        target.chmod(path, bits)
        return
    if stat.S_IMODE(st.st_mode) & OVERRIDDEN_MODE != OVERRIDDEN_MODE:
        target.chmod(path, OVERRIDDEN_MODE)


def read_link(ov: Overlay, node: File) -> bytes:
    """Return a symlink's target; ESTALE if its name leads to another one than the kernel knows."""
    if not node.is_symlink:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if node.part is None:
        return opened.readlink(anchor(ov, node))
    handle = node.part.tree.pin(ov.fd(node.part), node.name, node.is_seen)
    try:
        return opened.readlink(handle)
    finally:
        opened.close(handle)


@contextmanager
def _reached(ov: Overlay, node: Node) -> Iterator[tuple[Tree, Ref]]:
    """Yield where a node's xattrs are read: of the very object that the kernel checked permissions for, else ESTALE."""
    if isinstance(node, Directory):
        top = parts_of(ov, node).top
        yield top.tree, top.tree.reach_dir(ov.fd(top))
        return
    if not isinstance(node, File):
        raise TypeError(node)
    if node.part is None:
        yield node.tree, opened.ref(anchor(ov, node))
        return
    handle = node.part.tree.pin(ov.fd(node.part), node.name, node.is_seen)
    try:
        yield node.part.tree, opened.ref(handle)
    finally:
        opened.close(handle)


def _checked(ov: Overlay, name: bytes) -> str:
    text = os.fsdecode(name)
    if not ov.options.acl and text in ACLS:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return text


def get_xattr(ov: Overlay, node: Node, name: bytes) -> bytes:
    """Read an extended attribute; ENODATA if absent. The overlay's own marks are not seen."""
    text = escape.stored(_checked(ov, name))
    with _reached(ov, node) as (tree, ref):
        try:
            return tree.getxattr(ref, text)
        except OSError as error:
            # A layer whose filesystem has no ACLs: to its client FUSE would make every permission check fail with this.
            if error.errno == errno.EOPNOTSUPP and text in ACLS:
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None
            raise


def list_xattrs(ov: Overlay, node: Node) -> list[bytes]:
    """List the extended attributes without the overlay's own marks."""
    with _reached(ov, node) as (tree, ref):
        names = tree.listxattr(ref)
    hidden = () if ov.options.acl else ACLS
    return [os.fsencode(name) for name in map(escape.shown, names) if name is not None and name not in hidden]


def set_xattr(ov: Writable, node: Node, name: bytes, value: bytes, who: Who) -> None:
    """Set an extended attribute; a mark is an inner overlay's, and kept apart from our own."""
    text = escape.stored(_checked(ov, name))
    with _own(ov, node) as own:
        target.setxattr(own, text, value)
        if text in ACLS:  # they change the mode
            note_shown(node, target.stat(own))
        if text == ACCESS_ACL:
            drop_by_acl(ov, node, own, who)


def remove_xattr(ov: Writable, node: Node, name: bytes, who: Who) -> None:
    """Remove an extended attribute; ENODATA if absent, without a copy-up for that. An absent ACL is no error."""
    try:
        get_xattr(ov, node, name)
    except OSError as error:
        if error.errno == errno.ENODATA and os.fsdecode(name) in ACLS:
            if os.fsdecode(name) == ACCESS_ACL and who is Who.OUTSIDER:
                with _own(ov, node) as own:
                    drop_by_acl(ov, node, own, who)
            return  # as the kernel: vfs_remove_acl sets an empty one
        raise
    text = escape.stored(os.fsdecode(name))
    with _own(ov, node) as own:
        target.removexattr(own, text)
        if text in ACLS:
            note_shown(node, target.stat(own))
        if text == ACCESS_ACL:
            drop_by_acl(ov, node, own, who)
