"""Copy-up: a lower object gets its copy in the upper before it is changed.

The copy is staged in the scratch directory, complete with its metadata, and renamed to its place: that rename is the
commit point. Parent directories come first. Data may be copied by a thread, between `stage` and `adopt`.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from layerfs.sys import dirs
from layerfs.sys.copy import begin_settling, settle
from layerfs.union import opened
from layerfs.union.inodes import Directory, File
from layerfs.union.kept import keep_beside
from layerfs.union.layers import Part, Ref, Tree, getxattr_or_none, xattrs
from layerfs.union.metacopy import data_of
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.state import Attributes, Overlay
from layerfs.union.whiteout import is_private

_NO_XATTR = {errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL}
OVERRIDDEN_MODE = 0o755  # on disk, when the mode that counts is in an xattr: the server must get in


class Staged:
    """A lower file's copy in the scratch directory, ready to be filled and adopted."""

    __slots__ = ("fd", "name", "node", "ov", "size", "source", "st", "tree")

    def __init__(self, ov: Overlay, node: File, size: int | None) -> None:
        """Make the copy, without its data yet. `size` [bytes] cuts the data short (a truncate is to follow)."""
        work, _ = ov.writable()
        self.ov, self.node, self.name = ov, node, work.name()
        self.tree, at, name = _source(ov, node)
        self.fd = self.source = -1
        self.st = self.tree.lstat(at, name) if at >= 0 else opened.stat(node.opened().anchor())
        self.size = self.st.st_size if size is None else min(size, self.st.st_size)
        if stat.S_ISREG(self.st.st_mode):
            self.source = (
                data_of(ov, node, self.tree.open(at, name, os.O_RDONLY))
                if at >= 0
                else opened.reopen(node.opened().anchor(), os.O_RDONLY)
            )
            try:
                self.fd = os.open(self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=work.fd)
            except BaseException:
                opened.close(self.source)
                raise
        elif stat.S_ISLNK(self.st.st_mode):
            os.symlink(self.tree.readlink(at, name), self.name, dir_fd=work.fd)
        else:
            os.mknod(self.name, self.st.st_mode, self.st.st_rdev, dir_fd=work.fd)

    def copy(self) -> None:
        """Copy the data: the part of a copy-up whose cost grows with the file; any thread may do it."""
        if self.source < 0:
            return
        opened.copy(self.source, self.fd, self.size)
        if self.ov.options.fsync and not self.ov.options.volatile:
            begin_settling(self.fd)

    def discard(self) -> None:
        """Remove the copy: it failed, or is not needed any more."""
        self.close()
        work, _ = self.ov.writable()
        dirs.remove(work.fd, self.name)

    def close(self) -> None:
        """Close the descriptors; the copy stays."""
        if self.source >= 0:
            opened.close(self.source)
        if self.fd >= 0:
            os.close(self.fd)
        self.source = self.fd = -1


def _source(ov: Overlay, node: File) -> tuple[Tree, int, bytes]:
    if node.place is not None:
        return node.place.tree, ov.fd(node.place), node.name
    tree = node.opened().orphan_of
    assert tree is not None
    return tree, -1, b""


def needs_copy_up(node: File) -> bool:
    """Tell whether a file must be copied up before it is changed."""
    if node.place is not None:
        return node.place.tree.index != 0
    return node.extra is not None and node.extra.orphan_of is not None


def copy_up(ov: Overlay, node: File, size: int | None = None, *, keep_open: bool = False) -> None:
    """Copy a file up, inline: for small files, and for what has no data. `keep_open` for whoever opens it next."""
    ov.writable()
    if needs_copy_up(node):
        staged = Staged(ov, node, size)
        try:
            staged.copy()
            adopt(staged, keep_open=keep_open)
        except BaseException:
            staged.discard()
            raise


def adopt(staged: Staged, *, keep_open: bool = False) -> None:
    """Give a staged file its metadata and make it the upper's. Whoever was faster (a former copy-up) wins."""
    ov, node = staged.ov, staged.node
    if not needs_copy_up(node):
        staged.discard()
        return
    work, _ = ov.writable()
    path = dirs.path_of(work.fd, staged.name)
    if node.place is None:
        _finish_metadata(ov, staged, path, opened.ref(node.opened().anchor()))
        _become_anonymous(ov, staged)
        return
    _finish_metadata(ov, staged, path, staged.tree.reach(ov.fd(node.place), node.name))
    own = os.lstat(staged.name, dir_fd=work.fd).st_ino
    ov.keep_number(staged.fd if staged.fd >= 0 else path, own, node.ino)
    assert node.parent is not None
    names = _all_names(ov, node, staged.st)
    part = copy_up_directory(ov, node.parent)
    if staged.fd >= 0 and ov.options.fsync and not ov.options.volatile:
        settle(staged.fd)
    _publish(ov, part, lambda at: os.rename(staged.name, node.name, src_dir_fd=work.fd, dst_dir_fd=at))
    _note_upper(ov, node.parent, node.name)
    node.place = part
    _switch_data(staged, keep_open=keep_open)
    keep_beside(ov, node)
    for parent, name in names:
        link_upper(ov, node, parent, name)


def _all_names(ov: Overlay, node: File, st: Attributes) -> list[tuple[Directory, bytes]]:
    """Return the further visible names of a lower hard link: they stay one file in the upper."""
    if st.st_nlink < 2:
        return []
    from layerfs.union.hardlinks import other_names

    return other_names(ov, node)


def link_upper(ov: Overlay, node: File, parent: Directory, name: bytes) -> None:
    """Make a name of a lower hard link a name of its copy in the upper."""
    part = copy_up_directory(ov, parent)
    assert node.place is not None
    with ov.handles.held():
        source = ov.fd(node.place)
        _publish(
            ov,
            part,
            lambda at: os.link(node.name, name, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False),
        )
    _note_upper(ov, parent, name)


def _note_upper(ov: Overlay, parent: Directory, name: bytes) -> None:
    listing = listing_of(ov, parent)
    listing[name] = 0
    parent.covered.add(name)


def _publish(ov: Overlay, part: Part, rename: Callable[[int], None]) -> None:
    """Move something into an upper directory whose times are not to show it: nothing changed for whoever looks."""
    at = ov.fd(part)
    before = os.fstat(at)
    try:
        rename(at)
    except PermissionError:  # who changes a file need not be allowed to write to its directory
        with dirs.unlocked(at):
            rename(at)
    with suppress(OSError):  # what is published is not taken back for a time; EPERM: the directory is somebody else's
        os.utime(dirs.held(at), ns=(before.st_atime_ns, before.st_mtime_ns))


def _switch_data(staged: Staged, *, keep_open: bool) -> None:
    """Let an open file go on with the upper's data: its readers must see what is written from now on."""
    extra = staged.node.extra
    if staged.fd >= 0 and (keep_open or (extra is not None and extra.fd >= 0)):
        extra = staged.node.opened()
        extra.retire()
        extra.fd, extra.writable, staged.fd = staged.fd, True, -1
        staged.ov.files.add(staged.node)  # a file of an image had no descriptor before
    staged.close()


def _become_anonymous(ov: Overlay, staged: Staged) -> None:
    """Adopt the copy of a file that has no name any more: only its open descriptors reach it."""
    work, _ = ov.writable()
    extra = staged.node.opened()
    if staged.fd < 0:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    os.unlink(staged.name, dir_fd=work.fd)
    extra.retire()
    extra.unpin()
    extra.fd, extra.writable, staged.fd = staged.fd, True, -1
    extra.orphan_of = None
    staged.close()


def _finish_metadata(ov: Overlay, staged: Staged, target: dirs.Target, source: Ref) -> None:
    _copy_metadata(ov, staged.tree, source, staged.fd if staged.fd >= 0 else target, staged.st)


def _copy_metadata(ov: Overlay, tree: Tree, source: Ref, target: dirs.Target, st: Attributes) -> None:
    """Give a copy its original's owner, mode, xattrs and times, in the order in which none undoes another.

    `target` is a path that is not followed, or a descriptor, which is quicker.
    """
    owners = ov.owners
    stored = owners.stored(tree, source, st)
    link = stat.S_ISLNK(st.st_mode)
    kept = owners.override is not None and not link and owners.write(
        target, stored.st_uid, stored.st_gid, stat.S_IFMT(st.st_mode) | stat.S_IMODE(stored.st_mode)
    )
    if owners.override is None:
        _chown(target, stored.st_uid, stored.st_gid)
    _copy_xattrs(tree, source, target)
    if not link:  # last: chown takes setuid, and what may not be written takes no xattrs
        os.chmod(target, OVERRIDDEN_MODE if kept else stat.S_IMODE(stored.st_mode))
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=dirs.follows(target))


def _chown(target: dirs.Target, uid: int, gid: int) -> None:
    """Set the owner; a server that may not (a plain user's) owns what it copies, as cp does."""
    if uid == os.geteuid() and gid == os.getegid():
        return  # made so
    try:
        os.chown(target, uid, gid, follow_symlinks=dirs.follows(target))
    except PermissionError:
        if os.geteuid() == 0:
            raise


def _copy_xattrs(tree: Tree, source: Ref, target: dirs.Target) -> None:
    for name in xattrs(tree, source):
        if is_private(name):
            continue
        value = getxattr_or_none(tree, source, name)
        if value is None:
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=dirs.follows(target))
        except OSError as error:
            # Labels of another security domain, or an upper without them: as the kernel, only ACLs must arrive.
            if error.errno not in _NO_XATTR or name.startswith("system.posix_acl"):
                raise


def copy_up_directory(ov: Overlay, node: Directory) -> Part:
    """Return a directory's share of the upper, making it, and its parents', as needed."""
    ov.writable()
    chain = []
    step: Directory | None = node
    while step is not None and parts_of(ov, step)[0] is None:
        chain.append(step)
        step = step.parent
    if node.dead or (chain and step is None):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for directory in reversed(chain):
        _copy_up_one(ov, directory)
    part = parts_of(ov, node)[0]
    assert part is not None
    return part


def _copy_up_one(ov: Overlay, node: Directory) -> None:
    work, _ = ov.writable()
    parent, upper = node.parent, ov.trees[0]
    assert parent is not None and upper is not None and node.parts is not None
    first = next(part for part in node.parts if part is not None)
    with ov.handles.held():
        fd = ov.fd(first)
        st = first.tree.stat_dir(fd)
        name = work.name()
        os.mkdir(name, 0o700, dir_fd=work.fd)
        try:
            _copy_metadata(ov, first.tree, first.tree.reach_dir(fd), dirs.path_of(work.fd, name), st)
            above = parts_of(ov, parent)[0]
            assert above is not None
            _publish(ov, above, lambda at: dirs.move(work.fd, name, at, node.name))
        except BaseException:
            dirs.remove(work.fd, name)
            raise
    node.parts[0] = Part(upper, above, node.name)
    listing = listing_of(ov, parent)
    listing[node.name] = node.candidates = ov.span((0, *node.candidates))
    parent.covered.add(node.name)
