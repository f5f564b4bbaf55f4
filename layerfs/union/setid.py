"""Setuid and setgid: what a change by somebody without CAP_FSETID takes (fs/attr.c, setattr_should_drop_suidgid)."""

import stat
from enum import Enum

from layerfs.sys import target
from layerfs.union.inodes import File, Node
from layerfs.union.lookup import note_shown
from layerfs.union.state import Writable


class Who(Enum):
    """Who changes a file."""

    PRIVILEGED = 0  # with CAP_FSETID
    MEMBER = 1  # of the file's group
    OUTSIDER = 2


def killed(mode: int, who: Who) -> int:
    """Return the bits that a write takes. Setgid without group execution meant mandatory locking: a member's stays."""
    if who is Who.PRIVILEGED or stat.S_ISDIR(mode):
        return 0
    group = mode & stat.S_IXGRP or who is Who.OUTSIDER
    return mode & stat.S_ISUID | (mode & stat.S_ISGID if group else 0)


def drop(ov: Writable, node: Node, path: target.Target, who: Who) -> None:
    """Clear the bits that a write, a truncate or a chown takes of an upper object."""
    mode = _mode(ov, path)
    _clear(ov, node, path, killed(mode, who))


def drop_at_write(ov: Writable, node: File, fd: int, who: Who) -> None:
    """Clear the bits that a write takes; the answer "none set" is remembered until the mode changes."""
    extra = node.opened()
    if extra.sxid is not False:
        mode = _mode(ov, fd)
        kill = killed(mode, Who.OUTSIDER if extra.outsider and who is Who.MEMBER else who)
        _clear(ov, node, fd, kill)
        if kill:
            ov.changed(node.ino)
        extra.sxid = None if (mode & ~kill) & (stat.S_ISUID | stat.S_ISGID) else False


def drop_by_acl(ov: Writable, node: Node, path: target.Target, who: Who) -> None:
    """Clear setgid as a new access ACL does (fs/posix_acl.c, posix_acl_update_mode)."""
    if who is Who.OUTSIDER and _mode(ov, path) & stat.S_ISGID:
        _clear(ov, node, path, stat.S_ISGID)
        ov.changed(node.ino)


def _mode(ov: Writable, path: target.Target) -> int:
    return ov.owners.stored(ov.upper.tree, path, target.stat(path)).st_mode


def _clear(ov: Writable, node: Node, path: target.Target, bits: int) -> None:
    if not bits:
        return
    st = target.stat(path)
    if ov.owners.override is None:
        target.chmod(path, stat.S_IMODE(st.st_mode) & ~bits)
        note_shown(node, target.stat(path))
        return
    old = ov.owners.stored(ov.upper.tree, path, st)  # the mode that counts is in an xattr
    ov.owners.write(path, old.st_uid, old.st_gid, old.st_mode & ~bits)
