"""Write squashfs images: from a directory, or from entries as they come."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import Self

from layerfs.pysquashfs.content import Feeder
from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.filespec import Changed, Dropped, FileSpec, Source, entries_of
from layerfs.pysquashfs.options import LATEST, WriteOptions
from layerfs.pysquashfs.session import Common, Session
from layerfs.pysquashfs.target import replacing, within
from layerfs.pysquashfs.tree import ImageNode, ImageTree, device_on_disk

Progress = Callable[[int], object]  # bytes of content so far

__all__ = ["FileSpec", "ImageWriter", "WriteOptions", "entries_of", "write_image", "write_tree"]

DEFAULT = WriteOptions()


def write_image(
    target: Source,
    entries: Iterable[FileSpec],
    options: WriteOptions = DEFAULT,
    *,
    offset: int = 0,
    on_progress: Progress | None = None,
    on_changed: Changed | None = None,
) -> int:
    """Write an image of `entries`, parents before children, and return its length [bytes], a multiple of 4096.

    target: a path, which gets the complete image on disk or stays as it was; or the descriptor of a regular file, open
    for reading too, where the image begins at `offset` and ends the file (no fsync; if it fails the file ends there).
    Memory grows with the number of names, not with content. Content is stored in the order of the entries, metadata
    sorted; the same entries give the same bytes, whatever the number of threads. Times before 1970 and after 2106
    become the nearest that squashfs has. A root without an entry is a directory 0755 of 0:0 with the image's time.
    `on_changed` is told of files that changed while they were read, or were gone: they are packed as far as they went.
    Whatever an iterator or a callback raises ends the writing and passes through.
    Raises SquashfsError: a bad entry (tree.py) or option, ENOSPC and its like; OSError with the path of a source.
    """
    if isinstance(target, int):
        with within(target, offset):
            return _write(Session(target, offset, options, b""), entries, options, on_progress, on_changed)
    if offset:
        reason = "an offset needs a descriptor, not a path"
        raise SquashfsError(errno.EINVAL, reason, filename=os.fsencode(target), what="options")
    path = os.fsencode(target)
    with replacing(path) as fd:
        return _write(Session(fd, 0, options, path), entries, options, on_progress, on_changed)


def write_tree(
    directory: Source,
    target: Source,
    options: WriteOptions = DEFAULT,
    *,
    offset: int = 0,
    on_progress: Progress | None = None,
    on_dropped: Dropped | None = None,
    on_changed: Changed | None = None,
) -> int:
    """Write an image of what is below a directory: write_image of entries_of."""
    entries = entries_of(directory, xattrs=options.xattrs, on_dropped=on_dropped, on_changed=on_changed)
    return write_image(target, entries, options, offset=offset, on_progress=on_progress, on_changed=on_changed)


def _write(
    session: Session,
    entries: Iterable[FileSpec],
    options: WriteOptions,
    on_progress: Progress | None,
    on_changed: Changed | None,
) -> int:
    """Content goes out while the tree grows; then the tree follows. Returns the image's length [bytes]."""
    with session:
        return _finish(session, entries, Feeder(session, on_progress, on_changed), options)


def _finish(session: Session, entries: Iterable[FileSpec], feeder: Feeder, options: WriteOptions) -> int:
    tree, times = ImageTree(), _Times(options.latest())
    for entry in entries:
        node = tree.add(entry)
        if node is not None:
            node.mtime = times.stored(node.mtime)
            if stat.S_ISREG(node.mode):
                node.index = feeder.store(entry) if entry.stored is None else entry.stored
    session.end_of_content()
    if not tree.rooted:
        tree.root.mtime = times.image
    if options.xattr_table:
        session.xattrs({b"trusted.layerfs": b""})  # of nobody, but with it there is a table
    _write_inodes(session, tree, options)
    return session.finish(tree.root.number, tree.root.ref, times.image)


class ImageWriter:
    """An image whose contents come before it is known where they belong; what nobody names wastes its space.

    Closed before `finish` it leaves the beginning of an image behind `offset`, of no use.
    """

    def __init__(self, fd: int, options: WriteOptions = DEFAULT, *, offset: int = 0) -> None:
        """Begin an image in an open file, as write_image does. Raises SquashfsError."""
        self._options = options
        self._session = Session(fd, offset, options, b"")
        self._feeder = Feeder(self._session, None, None)

    def store(self, content: FileSpec) -> int:
        """Write a content (`data` or `source`) and return what `FileSpec.stored` is to be. Raises as write_image."""
        return self._feeder.store(content)

    def finish(self, entries: Iterable[FileSpec]) -> int:
        """Write the tree, parents before children, and return the image's length [bytes]. Raises as write_image."""
        return _finish(self._session, entries, self._feeder, self._options)

    def close(self) -> None:
        """Free the writer."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Times:
    """Times as they are stored [s], and the image's own."""

    def __init__(self, latest: int | None) -> None:
        self._latest = latest
        self._newest = 0

    def stored(self, mtime: int) -> int:
        """A file's time, within what is possible and allowed."""
        time = min(max(mtime, 0), LATEST if self._latest is None else self._latest)
        self._newest = max(self._newest, time)
        return time

    @property
    def image(self) -> int:
        """The superblock's time."""
        return self._newest if self._latest is None else self._latest


def _write_inodes(session: Session, tree: ImageTree, options: WriteOptions) -> None:
    for directory in tree.number():
        for node in directory.children.values():
            if node.ref < 0:  # else it has another name, and that came first
                _write_inode(session, node, options)
        # The root has no parent; mksquashfs gives it the number behind the last.
        parent = directory.parent.number if directory.parent else directory.number + 1
        names = ((name, node.number, node.ref, node.mode) for name, node in directory.children.items())
        directory.index = session.listing(names, parent)
    _write_inode(session, tree.root, options)


def _write_inode(session: Session, node: ImageNode, options: WriteOptions) -> None:
    uid = node.uid if options.force_uid is None else options.force_uid
    gid = node.gid if options.force_gid is None else options.force_gid
    xattrs = session.xattrs(node.xattrs if options.xattrs else {})
    is_device = stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode)
    what = device_on_disk(node.rdev) if is_device else node.index
    common = Common(node.number, node.mode, uid, gid, node.mtime, node.links, xattrs)
    node.ref = session.inode(common, what, node.target)
