"""Copy-up: a lower object gets its copy in the upper before it is changed.

The copy is staged in the scratch directory, complete with its metadata, and renamed to its place: that rename is the
commit point. Parent directories come first. Data may be copied by a thread, between `stage` and `adopt`.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from layerfs.sys import dirs, target
from layerfs.sys.copy import Progress, nothing
from layerfs.sys.durable import start_writeback
from layerfs.union import opened
from layerfs.union.handed import takes_new
from layerfs.union.hardlinks import IndexedCopy
from layerfs.union.inodes import Directory, File
from layerfs.union.kept_numbers import keep_beside
from layerfs.union.layers import Part, Ref
from layerfs.union.metacopy import data_of, open_seen, set_marks, trail_of
from layerfs.union.metadata import copy_metadata
from layerfs.union.opened import Handle
from layerfs.union.orphans import anchor, keep_staged
from layerfs.union.protattr import copy_flags
from layerfs.union.readdir import listing_of, parts_of
from layerfs.union.shown import fingerprint
from layerfs.union.state import Writable


class Staged:
    """A lower file's copy in the scratch directory, ready to be filled and adopted."""

    __slots__ = ("fd", "name", "node", "original", "ov", "size", "source", "st", "trail", "tree")

    def __init__(self, ov: Writable, node: File, size: int | None, trail: bytes | None = None) -> None:
        """Make the copy, without its data yet. `size` [bytes] cuts the data short (a truncate is to follow).

        With `trail` it is to be a copy of the metadata alone, whose data are found there.
        """
        self.ov, self.node, self.name, self.trail = ov, node, ov.upper.work.name(), trail
        self.tree = node.tree
        self.original: Handle | None = None  # what is copied up; None for what has no name any more and no data
        self.source: Handle | None = None  # its data: the same, but of a file that is only metadata
        self.fd: int | None = None
        try:
            self._make(size)
        except BaseException:
            self.close()
            raise

    def _make(self, size: int | None) -> None:
        node, scratch = self.node, self.ov.upper.work.fd
        if node.is_regular:
            self._open_original()
            self.fd = os.open(self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=scratch)
        else:
            self._pin_original()
            if stat.S_ISLNK(self.st.st_mode) and self.original is not None:
                os.symlink(opened.readlink(self.original), self.name, dir_fd=scratch)
            else:
                os.mknod(self.name, self.st.st_mode, self.st.st_rdev, dir_fd=scratch)
        self.size = self.st.st_size if size is None else min(size, self.st.st_size)

    def _open_original(self) -> None:
        ov, node = self.ov, self.node
        if node.part is None:
            self.original = self.source = opened.reopen(anchor(ov, node), os.O_RDONLY)
            self.st = opened.stat(self.original)
        else:
            self.original, self.st = open_seen(ov, node, node.part)
            if self.trail is None:
                self.source = data_of(ov, node, node.part, self.original, self.st)

    def _pin_original(self) -> None:
        """Pin an original that has no data; ESTALE if its name leads to something else by now."""
        ov, node = self.ov, self.node
        if node.part is None:
            self.st = opened.stat(anchor(ov, node))
        else:
            self.original = node.part.tree.pin(ov.fd(node.part), node.name, node.is_seen)
            self.st = opened.stat(self.original)

    @property
    def ref(self) -> Ref:
        """The reference by which the original's xattrs are read."""
        if self.original is None:
            return opened.ref(anchor(self.ov, self.node))
        if self.source is not None and isinstance(self.original, int):
            return self.original  # a descriptor that is open for reading is quicker than a path of it
        return opened.ref(self.original)

    @property
    def target(self) -> dirs.Target:
        """The copy: its descriptor, which is quicker, or its path."""
        return dirs.path_of(self.ov.upper.work.fd, self.name) if self.fd is None else self.fd

    def copy(self, progress: Progress = nothing) -> None:
        """Copy the data: the part of a copy-up whose cost grows with the file; any thread may do it.

        `progress` is called with each offset that is reached; an exception of it ends the copy.
        """
        if self.fd is not None and self.trail is not None:
            os.ftruncate(self.fd, self.size)
            set_marks(self.ov, self.fd, self.trail)
        if self.source is None or self.fd is None:
            return
        opened.copy(self.source, self.fd, self.size, progress)
        if self.must_be_durable:
            start_writeback(self.fd)

    @property
    def must_be_durable(self) -> bool:
        """Whether the data are to be on disk before the copy gets its name, so that a power cut leaves old or new.

        Also with fsync=0: what a client does not sync may be lost, but a file that was only opened must not.
        """
        return not self.ov.options.volatile

    def discard(self) -> None:
        """Remove the copy: it failed, or is not needed any more."""
        self.close()
        dirs.remove(self.ov.upper.work.fd, self.name)

    def close(self) -> None:
        """Close the handles; the copy stays."""
        if self.source is not None and self.source is not self.original:
            opened.close(self.source)
        if self.original is not None:
            opened.close(self.original)
        if self.fd is not None:
            os.close(self.fd)
        self.original = self.source = self.fd = None


def needs_copy_up(node: File) -> bool:
    """Tell whether a file must be copied up before it is changed."""
    if node.part is not None:
        return not node.part.is_upper
    home = node.extra.unnamed_in if node.extra is not None else None
    return home is not None and home.index != 0


def copy_up(
    ov: Writable,
    node: File,
    size: int | None = None,
    *,
    keep_open: bool = False,
    all_names: bool = True,
    data: bool = True,
) -> None:
    """Copy a file up inline: small files, and what has no data. `keep_open` keeps its descriptor for an open.

    All known names of a lower hard link become names of the copy; a rename asks for no more than its own. Without
    `data` the copy may be one of the metadata alone, where the mount makes such.
    """
    if needs_copy_up(node):
        staged = Staged(ov, node, size, None if data else trail_of(ov, node))
        try:
            staged.copy()
            adopt(staged, keep_open=keep_open)
        except BaseException:
            staged.discard()
            raise
    if all_names:
        _complete_links(ov, node)


def adopt(staged: Staged, *, keep_open: bool = False) -> None:
    """Give a staged file its metadata and make it the upper's. A copy-up that ended before this one wins."""
    ov, node = staged.ov, staged.node
    if not needs_copy_up(node):
        staged.discard()
        return
    linked = staged.st.st_nlink > 1 and ov.upper.links.works
    copy_metadata(ov, staged.tree, staged.ref, staged.target, staged.st)
    if isinstance(staged.original, int) and staged.fd is not None:
        copy_flags(ov, staged.original, staged.fd)
    copy = target.stat(staged.target)
    if linked or staged.st.st_nlink < 2:  # without an index the names of a hard link are files of their own from now on
        ov.keep_number(staged.target, copy.st_ino, node.ino)
    if node.part is None:
        if linked:
            _add_to_index(staged)
        _become_anonymous(ov, staged)
        ov.table.owns(node, ov.numbers.of(copy.st_dev, copy.st_ino))
        return
    part = copy_up_directory(ov, node.above())
    if staged.fd is not None and staged.must_be_durable:
        ov.upper.make_durable(staged.fd)
    _place(staged, part, linked=linked)
    node.part = part
    ov.table.owns(node, ov.numbers.of(copy.st_dev, copy.st_ino))
    node.seen = fingerprint(copy)
    if node.extra is not None and node.extra.aliases:
        node.extra.incomplete = linked
    _switch_data(staged, keep_open=keep_open)
    keep_beside(ov, node, part, node.name)
    ov.changed(node.ino)


def _place(staged: Staged, part: Part, *, linked: bool) -> None:
    """Move a complete copy to its name in the upper; of a lower hard link it gets into the index first."""
    ov, node, scratch = staged.ov, staged.node, staged.ov.upper.work.fd
    number = _add_to_index(staged) if linked else 0
    try:
        _publish(ov, part, lambda at: os.rename(staged.name, node.name, src_dir_fd=scratch, dst_dir_fd=at))
    except BaseException:
        if linked:
            ov.upper.links.withdraw(number)
        raise
    parent = node.above()
    listing_of(ov, parent).copied_up(node.name, part)
    ov.changed(parent.ino)
    if linked:
        ov.upper.links.covered(number, staged.st)


def _add_to_index(staged: Staged) -> int:
    """Add the copy of a lower hard link to the index, so that its other names lead there; return the lower's number."""
    number = staged.ov.numbers.of(staged.st.st_dev, staged.st.st_ino)
    staged.ov.upper.links.add(staged.name, number, staged.st)
    return number


def _complete_links(ov: Writable, node: File) -> None:
    """Link each known name of a lower hard link to its copy in the upper."""
    extra = node.extra
    if extra is None or not extra.incomplete or node.part is None:
        return
    for parent, name in [(node.above(), node.name), *extra.aliases]:
        if lower_part(ov, parent, name) is not None:
            link_upper(ov, node, parent, name)
    extra.incomplete = False


def lower_part(ov: Writable, parent: Directory, name: bytes) -> Part | None:
    """Return the share of a lower that holds a name of a file; None if the upper has the name."""
    where = listing_of(ov, parent).names.get(name)
    return where if isinstance(where, Part) and where.tree.index else None


def cover_link(ov: Writable, part: Part, name: bytes) -> None:
    """Note that the upper now has something else, or a whiteout, at a name of what may be a lower hard link."""
    st = part.tree.lstat(ov.fd(part), name)
    if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode) and ov.upper.links.works:
        ov.upper.links.covered(ov.numbers.of(st.st_dev, st.st_ino), st)


def link_upper(ov: Writable, node: File, parent: Directory, name: bytes) -> None:
    """Make a name of a lower hard link a name of its copy in the upper."""
    part, lower = copy_up_directory(ov, parent), lower_part(ov, parent, name)
    if node.part is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    with ov.handles.held():
        tree = node.part.tree
        source, own = tree.place if isinstance(tree, IndexedCopy) else (ov.fd(node.part), node.name)
        _publish(ov, part, lambda at: os.link(own, name, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False))
    listing_of(ov, parent).copied_up(name, part)
    keep_beside(ov, node, part, name)
    if node.parent is parent and node.name == name:
        node.part = part
    if lower is not None:
        cover_link(ov, lower, name)
    ov.changed(parent.ino)


def _publish(ov: Writable, part: Part, rename: Callable[[int], None]) -> None:
    """Move something into an upper directory and keep the directory's times: its merged content is the same."""
    at = ov.fd(part)
    before = os.fstat(at)
    try:
        rename(at)
    except PermissionError:  # who changes a file need not be allowed to write to its directory
        with dirs.unlocked(at):
            rename(at)
    with suppress(OSError):  # what is published is not taken back for a time; EPERM: the directory is somebody else's
        _set_times(at, before)


def _set_times(at: int, st: os.stat_result) -> None:
    """Set the times of an open directory, by its descriptor or, where that is a mere path (EBADF), by that path."""
    try:
        target.utime(at, st.st_atime_ns, st.st_mtime_ns)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        target.utime(dirs.held(at), st.st_atime_ns, st.st_mtime_ns)


def _switch_data(staged: Staged, *, keep_open: bool) -> None:
    """Switch an open file to the upper's data: its readers must see what is written from now on."""
    extra = staged.node.extra
    if staged.trail is None and staged.fd is not None and (keep_open or (extra is not None and extra.data is not None)):
        extra = staged.node.opened()
        extra.retire()
        extra.data, extra.writable, staged.fd = staged.fd, True, None
        staged.ov.files.add(staged.node)  # a file of an image had no descriptor before
    staged.close()


def _become_anonymous(ov: Writable, staged: Staged) -> None:
    """Adopt the copy of a file that has no name any more: only its open descriptors reach it."""
    extra = staged.node.opened()
    if staged.fd is None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    keep_staged(ov, staged.node, staged.name)
    extra.retire()
    extra.unpin()
    extra.data, extra.writable, staged.fd = staged.fd, True, None
    extra.unnamed_in = ov.upper.tree
    if extra.is_held_by_name:
        ov.files.add(staged.node)
    staged.close()


def copy_up_directory(ov: Writable, node: Directory) -> Part:
    """Return a directory's share of the upper, making it, and its parents', as needed."""
    chain = []
    step = node
    while (part := parts_of(ov, step).upper) is None and step.parent is not None:
        chain.append(step)
        step = step.parent
    if node.dead or part is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for directory in reversed(chain):
        part = _copy_up_one(ov, directory, step, part)
        step = directory
    return part


def _copy_up_one(ov: Writable, node: Directory, parent: Directory, above: Part) -> Part:
    """Give a directory a share of the upper, in its parent's share `above`."""
    parts, scratch, name = parts_of(ov, node), ov.upper.work.fd, ov.upper.work.name()
    with ov.handles.held():
        fd = ov.fd(parts.top)
        st = parts.top.tree.stat_dir(fd)
        os.mkdir(name, 0o700, dir_fd=scratch)
        try:
            path = dirs.path_of(scratch, name)
            copy_metadata(ov, parts.top.tree, parts.top.tree.reach_dir(fd), path, st)
            copy = target.stat(path)
            _publish(ov, above, lambda at: dirs.move(scratch, name, at, node.name))
        except BaseException:
            dirs.remove(scratch, name)
            raise
    part = parts.upper = Part(ov.upper.tree, above, node.name)
    ov.table.owns(node, ov.numbers.of(copy.st_dev, copy.st_ino))
    part.seen = node.seen = fingerprint(copy)
    if ov.table.front is not None:
        ov.table.front.top(node.ino, part, copy, makes=node.listing is not None and takes_new(ov, node.listing))
    node.candidates = (above, *node.candidates)
    listing_of(ov, parent).copied_up(node.name, node.candidates)
    ov.changed(node.ino)
    ov.changed(parent.ino)
    return part
