"""What an image is to hold: entries, made by hand or found in a directory."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    on_dropped: Dropped | None = None,
    on_changed: Changed | None = None,
) -> Iterator[FileSpec]:
    """Yield what is below a directory, and first the directory itself: parents first, names sorted bytewise.

    Further names of a file are links to its first. Holes stay holes, since the entries name their files as sources.
    Attributes that squashfs cannot hold are left out; `on_dropped` is told their path and name. What vanishes meanwhile
    is left out, too; `on_changed` is told of it. Raises OSError with the path of what cannot be read.
    """
    top = directory if isinstance(directory, int) else os.fsencode(directory)
    base = b"/proc/self/fd/%d" % top if isinstance(top, int) else top
    walk = _Walk(base, xattrs, on_dropped or (lambda path, name: None), on_changed or (lambda path, what: None))
    yield walk.entry(b"", os.stat(base))
    waiting = walk.listing(b"")[::-1]
    while waiting:
        path, status = waiting.pop()
        try:
            entry = walk.entry(path, status)
        except FileNotFoundError:
            walk.vanished(path)
            continue
        yield entry
        if stat.S_ISDIR(status.st_mode):
            waiting += walk.listing(path)[::-1]


class _Walk:
    """One pass over a directory: where it is, and which files were met."""

    def __init__(self, base: bytes, xattrs: bool, on_dropped: Dropped, on_changed: Changed) -> None:
        self.base, self.xattrs, self.on_dropped, self.on_changed = base, xattrs, on_dropped, on_changed
        self.met: dict[tuple[int, int], bytes] = {}

    def place(self, path: bytes) -> bytes:
        return os.path.join(self.base, path) if path else self.base

    def listing(self, path: bytes) -> list[tuple[bytes, os.stat_result]]:
        """Paths in a directory, sorted, with their lstat."""
        prefix, found = path + b"/" if path else b"", []
        try:
            with _opened(self.place(path), follow=not path) as items:
                for item in items:
                    try:
                        found.append((prefix + os.fsencode(item.name), item.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        self.vanished(prefix + os.fsencode(item.name))
        except (FileNotFoundError, NotADirectoryError):
            self.vanished(path)
        return sorted(found, key=lambda pair: pair[0])

    def vanished(self, path: bytes) -> None:
        """Tell of a name that is not there any more."""
        self.on_changed(path, "was gone when it was to be read: it is left out")

    def entry(self, path: bytes, status: os.stat_result) -> FileSpec:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self.met.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                return FileSpec(path, link=first)
        entry = FileSpec(path, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns // 10**9)
        if self.xattrs:
            entry.xattrs = self.attributes(path)
        if stat.S_ISREG(status.st_mode):
            entry.source, entry.seen = self.place(path), status
        elif stat.S_ISLNK(status.st_mode):
            entry.target = os.readlink(self.place(path))
        else:
            entry.rdev = status.st_rdev
        return entry

    def attributes(self, path: bytes) -> dict[bytes, bytes]:
        place, found = self.place(path), {}
        follow = not path  # the top may be named by a symlink, as /proc/self/fd/N is
        for name in map(os.fsencode, _names(place, follow)):
            if not name.startswith(XATTR_PREFIXES):
                self.on_dropped(path, name)
                continue
            try:
                found[name] = os.getxattr(place, name, follow_symlinks=follow)
            except OSError as error:
                if error.errno != errno.ENODATA:  # removed since it was listed
                    raise
        return found


@contextmanager
def _opened(place: bytes, *, follow: bool) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """Open a directory that may have become a symlink since it was seen."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        with os.scandir(fd) as items:
            yield items
    finally:
        os.close(fd)


def _names(place: bytes, follow: bool) -> list[str]:
    try:
        return os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []
