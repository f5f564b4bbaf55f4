"""What an image is to hold: entries, made by hand or found in a directory."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from layerfs.pysquashfs.options import LATEST
from layerfs.pysquashfs.pinned import PinnedFile, PinnedTree, held

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Source = Path | int
Dropped = Callable[[bytes, bytes], None]  # path in the image, name of the attribute
Changed = Callable[[bytes, str], object]  # path in the image, what happened to it

# What squashfs can hold (squashfs_fs.h: SQUASHFS_XATTR_USER and its siblings). Not system., where POSIX ACLs are.
XATTR_PREFIXES = (b"user.", b"trusted.", b"security.")


@dataclass(slots=True)
class FileSpec:
    """One name of the image: its path from the root (b"" is the root itself), and what is there.

    mode: with its type (stat.S_IFREG...). mtime [s]. rdev: as os.makedev gives it. target: of a symlink.
    A regular file's content is `source` if there is one, else `data`. source: a path, opened when the entry's turn
    comes, or a descriptor: of a regular file all is read and its position kept, of a pipe what is left. data: bytes, or
    bytes in pieces. seen: what lstat(2) said of the source, which is then no symlink; one that is another file or has
    another size when its turn comes is told. stored: content that the writer has already (ImageWriter.store). link:
    another name, given before, of the same file; then nothing else counts.
    """

    path: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    data: bytes | Iterable[bytes] = b""
    source: Source | None = None
    target: bytes = b""
    rdev: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    link: bytes | None = None
    seen: os.stat_result | None = None
    stored: int | None = None


def entries_of(
    directory: Source,
    *,
    xattrs: bool = True,
    follow: bool = True,
    on_dropped: Dropped | None = None,
    on_changed: Changed | None = None,
) -> Iterator[FileSpec]:
    """Yield what is below a directory, and first the directory itself: parents first, names sorted bytewise.

    Nothing below it is reached by a path that its owner could exchange meanwhile (pinned.py), now or when content is
    read. `follow` says whether the directory's own last name may be a symlink.
    Further names of a file are links to its first. Holes stay holes, since the entries name their files as sources.
    Attributes that squashfs cannot hold are left out, and times moved; `on_dropped` is told which. What vanishes
    meanwhile is left out, too, and what gets another type; `on_changed` is told. Raises OSError with the path of what
    cannot be read.
    """
    tree = PinnedTree(directory if isinstance(directory, int) else os.fsencode(directory), follow=follow)
    walk = _Walk(tree, xattrs, on_dropped or (lambda path, name: None), on_changed or (lambda path, what: None))
    yield walk.entry(b"", None)
    waiting = walk.listing(b"")[::-1]
    while waiting:
        path, status = waiting.pop()
        try:
            entry = walk.entry(path, status)
        except (FileNotFoundError, NotADirectoryError):
            walk.vanished(path)
            continue
        yield entry
        if stat.S_ISDIR(entry.mode):
            waiting += walk.listing(path)[::-1]


def entry_at(path: bytes, seen: os.stat_result, *, on_dropped: Dropped) -> FileSpec:
    """Return one name, no directory, as an entry; FileNotFoundError if it had another type when it was seen."""
    parent, name = os.path.split(path)
    tree = PinnedTree(parent or b".")
    tree.shown = parent
    return _Walk(tree, True, on_dropped, lambda path, what: None).entry(name, seen)


class _Walk:
    """One pass over a directory: where it is, and which files were met."""

    def __init__(self, tree: PinnedTree, xattrs: bool, on_dropped: Dropped, on_changed: Changed) -> None:
        self.tree, self.xattrs, self.on_dropped, self.on_changed = tree, xattrs, on_dropped, on_changed
        self.met: dict[tuple[int, int], bytes] = {}

    def listing(self, path: bytes) -> list[tuple[bytes, os.stat_result]]:
        """Paths in a directory, sorted, with their lstat."""
        prefix, found = path + b"/" if path else b"", []
        try:
            names = self.tree.names(path)
        except (FileNotFoundError, NotADirectoryError):
            self.vanished(path)
            return []
        for name, status in names:
            if status is None:
                self.vanished(prefix + name)
            else:
                found.append((prefix + name, status))
        return found

    def vanished(self, path: bytes) -> None:
        """Tell of a name that is not there any more."""
        self.on_changed(path, "was gone when it was to be read: it is left out")

    def entry(self, path: bytes, seen: os.stat_result | None) -> FileSpec:
        """Return what a name is now; FileNotFoundError if it had another type when it was `seen`."""
        with self.tree.pinned(path) as fd:
            status = os.fstat(fd)
            if seen is not None and stat.S_IFMT(seen.st_mode) != stat.S_IFMT(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.tree.of(path))
            try:
                return self._entry(path, status, fd)
            except OSError as error:
                error.filename = self.tree.of(path)
                raise

    def _entry(self, path: bytes, status: os.stat_result, fd: int) -> FileSpec:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self.met.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                return FileSpec(path, link=first)
        entry = FileSpec(path, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns // 10**9)
        if not 0 <= entry.mtime <= LATEST:
            self.on_dropped(path, b"time before 1970 or after 2106")
        if self.xattrs:
            entry.xattrs = self.attributes(path, fd)
        if stat.S_ISREG(status.st_mode):
            entry.source, entry.seen = PinnedFile(self.tree, path), status
        elif stat.S_ISLNK(status.st_mode):
            entry.target = os.readlink(b"", dir_fd=fd)
        else:
            entry.rdev = status.st_rdev
        return entry

    def attributes(self, path: bytes, fd: int) -> dict[bytes, bytes]:
        place, found = held(fd), {}
        for name in map(os.fsencode, _names(place)):
            if not name.startswith(XATTR_PREFIXES):
                self.on_dropped(path, name)
                continue
            try:
                found[name] = os.getxattr(place, name)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since it was listed
                    raise
        return found


def _names(place: bytes) -> list[str]:
    try:
        return os.listxattr(place)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        return []
