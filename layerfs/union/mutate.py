"""Making names. Each change is one rename or one system call in the upper: a crash leaves old or new."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from layerfs.sys import dirs, target
from layerfs.union.acl import DEFAULT_ACL
from layerfs.union.copyup import copy_up, copy_up_directory
from layerfs.union.escape import mark_device
from layerfs.union.inodes import Directory, File, Node
from layerfs.union.kept_numbers import keep_beside
from layerfs.union.layers import Part
from layerfs.union.listing import Listing, Whiteout
from layerfs.union.lookup import node_at
from layerfs.union.metacopy import complete_in_place, finds_data_anywhere
from layerfs.union.metadata import OVERRIDDEN_MODE
from layerfs.union.readdir import listing_of
from layerfs.union.replace import whiteout_by
from layerfs.union.shown import Attributes
from layerfs.union.state import Writable
from layerfs.union.whiteout import NAME_MAX, NO_DEVICE, WH, is_marker_name
from layerfs.value import value

Maker = Callable[[int, bytes], None]


@value
class Caller:
    """Who asks: the ids seen in the mount, and the umask."""

    uid: int
    gid: int
    umask: int = 0


def fail(code: int) -> OSError:
    """Return the OSError of an errno."""
    return OSError(code, os.strerror(code))


def check_free(ov: Writable, parent: Directory, name: bytes) -> None:
    """Refuse a name that is taken, too long, or a mark of the overlay's own."""
    if parent.dead:
        raise fail(errno.ENOENT)
    if name in listing_of(ov, parent).names:
        raise fail(errno.EEXIST)
    if len(name) > NAME_MAX:
        raise fail(errno.ENAMETOOLONG)
    if is_marker_name(name):
        raise fail(errno.EPERM)


def create(ov: Writable, parent: Directory, name: bytes, mode: int, caller: Caller) -> tuple[File, int]:
    """Make an empty regular file and return it with a descriptor for reading and writing.

    The descriptor is the one it was made with: a mode like 0444 lets nobody, not even the owner, open it so again.
    """
    made: list[int] = []

    def maker(at: int, new: bytes) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        made.append(os.open(new, flags, stat.S_IMODE(mode), dir_fd=at))

    try:
        node = _make(ov, parent, name, stat.S_IFREG | stat.S_IMODE(mode), caller, maker)
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    assert isinstance(node, File)
    return node, made[0]


def mknod(ov: Writable, parent: Directory, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
    """Make a device, FIFO, socket or regular file; a whiteout is an inner overlay's, and hides nothing here."""
    if stat.S_ISCHR(mode) and rdev == NO_DEVICE:
        return _make_inner_whiteout(ov, parent, name, mode, caller)
    if stat.S_ISREG(mode) or not stat.S_IFMT(mode):
        node, fd = create(ov, parent, name, mode, caller)
        os.close(fd)
        return node
    return _make(ov, parent, name, mode, caller, lambda at, new: os.mknod(new, mode, rdev, dir_fd=at))


def _make_inner_whiteout(ov: Writable, parent: Directory, name: bytes, mode: int, caller: Caller) -> Node:
    """Make a device 0/0 that is none on disk. EPERM where the upper cannot say so."""
    if not ov.upper.marks.xattrs:
        raise fail(errno.EPERM)
    node, fd = create(ov, parent, name, mode, caller)
    try:
        mark_device(fd, ov.upper.marks.prefix)
    finally:
        os.close(fd)
    return node


def mkdir(ov: Writable, parent: Directory, name: bytes, mode: int, caller: Caller) -> Node:
    """Make a directory; over something that the lowers have, an opaque one."""
    full = stat.S_IFDIR | stat.S_IMODE(mode)
    return _make(ov, parent, name, full, caller, lambda at, new: os.mkdir(new, stat.S_IMODE(mode), dir_fd=at))


def symlink(ov: Writable, parent: Directory, name: bytes, points_to: bytes, caller: Caller) -> Node:
    """Make a symlink."""
    full = stat.S_IFLNK | 0o777
    return _make(ov, parent, name, full, caller, lambda at, new: os.symlink(points_to, new, dir_fd=at))


def link(ov: Writable, node: File, parent: Directory, name: bytes) -> None:
    """Give a file one more name."""
    check_free(ov, parent, name)
    copy_up(ov, node, data=False)
    if node.part is not None and not finds_data_anywhere(ov, node):
        complete_in_place(ov, node)
    part = copy_up_directory(ov, parent)
    with ov.handles.held():
        source, old = _linked_from(ov, node)

        def maker(at: int, new: bytes) -> None:
            os.link(old, new, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)

        if listing_of(ov, parent).is_whiteout_at(name):
            _stage_over_whiteout(ov, ov.fd(part), name, maker)
        else:
            maker(ov.fd(part), name)
    note_made(ov, parent, part, name, is_dir=False)
    node_at(ov, parent, name)
    keep_beside(ov, node, part, name)


def _linked_from(ov: Writable, node: File) -> tuple[int, bytes]:
    """Return a directory of the upper and the name in it by which a file is linked; ENOENT for one that was removed."""
    if node.part is not None:
        return ov.fd(node.part), node.name
    extra = node.opened()
    if not extra.linkable or extra.kept_at is None:
        raise fail(errno.ENOENT)
    kept, name, is_expected = extra.kept_at
    if not is_expected(os.lstat(name, dir_fd=kept.fd)):
        raise fail(errno.ENOENT)
    return kept.fd, name


def _make(ov: Writable, parent: Directory, name: bytes, mode: int, caller: Caller, maker: Maker) -> Node:
    check_free(ov, parent, name)
    part = copy_up_directory(ov, parent)
    uid, gid = ov.owners.of_new(caller.uid, caller.gid)
    with ov.handles.held():
        at = ov.fd(part)
        listing, is_dir = listing_of(ov, parent), stat.S_ISDIR(mode)
        foreign = _foreign_ids(ov, at, uid, gid)
        if not foreign and not (is_dir and listing.must_be_opaque(name)) and not listing.is_whiteout_at(name):
            with dirs.umask(caller.umask):
                maker(at, name)
        else:
            _make_staged(ov, at, listing, name, mode, Caller(uid, gid, caller.umask), maker)
    note_made(ov, parent, part, name, is_dir=is_dir)
    return node_at(ov, parent, name)


def _foreign_ids(ov: Writable, at: int, uid: int, gid: int) -> bool:
    """Tell whether a new object would not come out as its caller's when simply made in place."""
    if ov.owners.override is not None:
        return True
    if not ov.options.acl and dirs.getxattr_or_none(at, DEFAULT_ACL) is not None:
        return True  # noacl: what is made in the scratch directory inherits none
    if uid != os.geteuid():
        return True
    return gid != os.getegid() and not os.fstat(at).st_mode & stat.S_ISGID


def _make_staged(ov: Writable, at: int, listing: Listing, name: bytes, mode: int, owner: Caller, maker: Maker) -> None:
    """Make an object in the scratch directory, complete, and move it to its name."""
    work = ov.upper.work
    staging = work.name()
    os.mkdir(staging, 0o700, dir_fd=work.fd)
    inside = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
    try:
        inherited = inherit(ov, at, inside)
        with dirs.umask(owner.umask):
            maker(inside, name)
        path = dirs.path_of(inside, name)
        own(ov, path, mode, owner, inherited)
        if stat.S_ISDIR(mode) and listing.must_be_opaque(name):
            with _directory(inside, name) as fd:
                ov.upper.marks.set_opaque(dirs.held(fd), fd)
        if listing.is_whiteout_at(name):
            whiteout_by(inside, name, at, name)
        else:
            dirs.move(inside, name, at, name)
    finally:
        os.close(inside)
        with suppress(OSError):  # the next mount empties the scratch directory
            dirs.remove(work.fd, staging)


@contextmanager
def _directory(at: int, name: bytes) -> Iterator[int]:
    """Hold a fresh directory open."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)


def inherit(ov: Writable, at: int, inside: int) -> Attributes:
    """Give a staging directory what new objects inherit from the real parent: default ACL, setgid and group."""
    acl = dirs.getxattr_or_none(at, DEFAULT_ACL) if ov.options.acl else None
    if acl is not None:
        target.setxattr(inside, DEFAULT_ACL, acl)
    parent = ov.owners.stored(ov.upper.tree, at, os.fstat(at))
    if parent.st_mode & stat.S_ISGID:
        if ov.owners.override is None:
            ov.owners.give(inside, -1, parent.st_gid)
            os.fchmod(inside, 0o2700)
    return parent


def own(ov: Writable, path: dirs.Target, mode: int, owner: Caller, parent: Attributes) -> None:
    """Set the owner of a new object to its caller. The group stays the parent's if that is setgid."""
    setgid = bool(parent.st_mode & stat.S_ISGID)
    if ov.owners.override is not None:
        if stat.S_ISLNK(mode):
            return
        st = target.stat(path)
        bits = stat.S_IMODE(st.st_mode) | (stat.S_ISGID if setgid and stat.S_ISDIR(mode) else 0)
        gid = parent.st_gid if setgid else owner.gid
        if ov.owners.write(path, owner.uid, gid, stat.S_IFMT(st.st_mode) | bits):
            target.chmod(path, OVERRIDDEN_MODE)
        return
    before = target.stat(path).st_mode
    given = ov.owners.give(path, owner.uid, -1 if setgid else owner.gid)
    if given and not stat.S_ISLNK(mode) and before & (stat.S_ISUID | stat.S_ISGID):
        target.chmod(path, stat.S_IMODE(before))  # chown took them
    elif not given and before & stat.S_ISUID:
        target.chmod(path, stat.S_IMODE(before) & ~stat.S_ISUID)  # it would lend the rights of the server's user


def _stage_over_whiteout(ov: Writable, at: int, name: bytes, maker: Maker) -> None:
    work = ov.upper.work
    temporary = work.name()
    maker(work.fd, temporary)
    os.rename(temporary, name, src_dir_fd=work.fd, dst_dir_fd=at)


def note_made(ov: Writable, parent: Directory, part: Part, name: bytes, *, is_dir: bool) -> None:
    """Note that the upper has something new at a name, and remove the `.wh.` file that hid the name.

    A `.wh.` file that stays hides no more than what is at the name does.
    """
    if listing_of(ov, parent).made(name, part, is_dir=is_dir) is Whiteout.BESIDE:
        with suppress(OSError):
            dirs.remove(ov.fd(part), WH + name)
