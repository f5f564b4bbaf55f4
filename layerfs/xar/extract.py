"""An image's tree written to a directory, safely whatever the image says.

Every write is (descriptor of a directory of ours, one name) and follows no symlink: names that are no names, that come
twice, or that lead through a symlink of the image reach nothing outside. Only one directory is open at a time, so depth
costs no descriptors: the way back is `..`, checked to be the directory that was left.

A directory is ours alone (0700) until all in it is written; then it gets its owner, xattrs, mode and times, in this
order, since chown clears setuid and capabilities, and user xattrs need a mode that lets us write.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from layerfs.errors import InvalidArgument, NotFound
from layerfs.pysquashfs import DirEntry, Inode, SquashfsImage
from layerfs.pysquashfs.blockcache import BlockCache
from layerfs.pysquashfs.copying import copy_file
from layerfs.pysquashfs.trail import Trail
from layerfs.xar.package import reason
from layerfs.xar.restore import Metadata

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST: Final = 2048  # directories above a file of which links are made; no path can name more
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing more can be written: the end, not an omission
# A directory that its own mode closed to us, what is another filesystem, and too many names of one file.
_UNLINKABLE: Final = (errno.EACCES, errno.EPERM, errno.EXDEV, errno.EMLINK)


@dataclass(slots=True)
class Extraction:
    """What was written, what was left out and why, and what an unprivileged user cannot have (no failure)."""

    entries: int = 0
    left_out: list[tuple[Trail, str]] = field(default_factory=list)
    waived: list[tuple[Trail, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How to extract. `paths`: only these and what is below them; `force`: into a directory that is not empty."""

    paths: tuple[bytes, ...] = ()
    owners: bool = False
    force: bool = False


def extract(
    image: SquashfsImage,
    target: bytes,
    options: ExtractOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Write an image's tree into a directory, made if it is missing.

    Raises NotFound for paths that are not in the image, InvalidArgument for a directory that is in use, OSError if
    nothing more can be written (ENOSPC, EDQUOT, EROFS); whatever else goes wrong is in the outcome.
    """
    chosen = _chosen(image, options.paths)
    with BlockCache() as blocks:
        extraction = _Extraction(image, options, chosen, blocks, progress)
        entries = image.readdir(image.root.ref)  # an image without a root to read leaves no trace
        fresh = _prepare(target, options.force)
        root = os.open(target, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            return extraction.run(root, entries, fresh)
        except OSError as error:
            if error.errno in _FULL:  # it is not about one file
                raise OSError(error.errno, error.strerror, target) from None
            raise


def _chosen(image: SquashfsImage, paths: Collection[bytes]) -> dict[bytes, bool] | None:
    """Return the paths that are asked for (True) and the directories above them (False); None for everything."""
    chosen: dict[bytes, bool] = {}
    for path in paths:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if not parts:
            return None
        try:
            image.lookup(b"/".join(parts))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            raise NotFound(f"no such path in the image: {os.fsdecode(path)}") from None
        for depth in range(1, len(parts)):
            chosen.setdefault(b"/".join(parts[:depth]), False)
        chosen[b"/".join(parts)] = True
    return chosen or None


def _prepare(target: bytes, force: bool) -> bool:
    """Make the directory to extract into; tell whether it is new."""
    try:
        os.mkdir(target, 0o700)
    except FileExistsError:
        if not force and os.listdir(target):
            shown = os.fsdecode(target)
            raise InvalidArgument(f"{shown} is not empty", "--force replaces what is in the way") from None
        return False
    return True


@dataclass(slots=True)
class _Open:
    """A directory that is being filled."""

    path: Trail
    inode: Inode
    identity: tuple[int, int]  # device and inode number on disk
    entries: Iterator[DirEntry]
    whole: bool  # everything in it is wanted
    sets_metadata: bool = True  # it gets its metadata when it is full
    names: set[bytes] = field(default_factory=set)


class _Extraction:
    """One image being written; `at` is the one directory that is open, the last of `stack`."""

    def __init__(
        self, image: SquashfsImage, options: ExtractOptions, chosen: dict[bytes, bool] | None, blocks: BlockCache,
        progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self.image = image
        self.at = -1
        self.force = options.force
        self.chosen = chosen
        self.blocks = blocks
        self.progress = progress
        self.outcome = Extraction()
        self.metadata = Metadata(image, options.owners, self.leave_out, self.waive)
        self.stack: list[_Open] = []
        self.directories = {image.root.number}
        self.first_names: dict[int, Trail] = {}  # inode number of a file with several names -> the first one's path

    def leave_out(self, path: Trail, why: str) -> None:
        self.outcome.left_out.append((path, why))

    def waive(self, path: Trail, why: str) -> None:
        self.outcome.waived.append((path, why))

    def run(self, fd: int, entries: list[DirEntry], fresh: bool) -> Extraction:
        """Fill the open directory, which is then closed, with the root's entries."""
        self.at = fd
        try:
            root = os.dup(fd)
            try:
                whole = self.chosen is None
                top = Trail(None, b"")
                self.stack.append(_Open(top, self.image.root, _identity(root), iter(entries), whole, fresh))
                while self.stack:
                    entry = next(self.stack[-1].entries, None)
                    if entry is None:
                        self.leave()
                    else:
                        self.guarded(root, entry)
            finally:
                os.close(root)
        finally:
            os.close(self.at)
        return self.outcome

    def guarded(self, root: int, entry: DirEntry) -> None:
        """Write one entry, or note why it is left out."""
        here = self.stack[-1]
        path = Trail(here.path, entry.name)
        wrong = _flaw(entry.name, here.names)
        here.names.add(entry.name)
        if wrong:
            return self.leave_out(path, wrong)
        whole = here.whole or (self.chosen or {}).get(path.path)
        if whole is None:
            return
        self.progress(self.outcome.entries, self.image.superblock.inode_count)
        try:
            inode = self.image.inode(entry.ref)
            if stat.S_ISDIR(inode.mode):
                self.enter(path, entry.name, inode, whole)
            else:
                self.leaf(root, path, entry.name, inode)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.leave_out(path, reason(error))

    def enter(self, path: Trail, name: bytes, inode: Inode, whole: bool) -> None:
        """Make a directory and go into it."""
        if inode.number in self.directories:
            return self.leave_out(path, "is a directory that has a second place in the tree")
        self.directories.add(inode.number)
        entries = iter(self.image.readdir(inode.ref))
        try:
            os.mkdir(name, 0o700, dir_fd=self.at)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=self.at).st_mode):
                self.clear(name)
                os.mkdir(name, 0o700, dir_fd=self.at)
        fd = os.open(name, _DIRECTORY, dir_fd=self.at)
        os.close(self.at)
        self.at = fd
        self.outcome.entries += 1
        self.stack.append(_Open(path, inode, _identity(fd), entries, whole))

    def leave(self) -> None:
        """Give a full directory its metadata and go back to the one above."""
        full = self.stack.pop()
        above = -1
        try:
            if self.stack:  # before the mode changes: to look up `..` takes search permission
                above = os.open(b"..", _DIRECTORY, dir_fd=self.at)
                if _identity(above) != self.stack[-1].identity:
                    raise OSError(errno.ESTALE, "a directory was moved away while it was being filled", full.path.shown)
            if full.sets_metadata:
                self.set_metadata(full)
        except BaseException:
            if above >= 0:
                os.close(above)
            raise
        if above >= 0:
            os.close(self.at)
            self.at = above

    def set_metadata(self, full: _Open) -> None:
        try:
            self.metadata.apply(self.at, full.path, full.inode)
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.leave_out(full.path, reason(error))

    def leaf(self, root: int, path: Trail, name: bytes, inode: Inode) -> None:
        """Make what is no directory."""
        if self.force:
            self.clear(name)
        if inode.nlink > 1 and inode.number in self.first_names:
            if self.link(root, path, name, inode):
                self.outcome.entries += 1
                return
        try:
            made = self.make(path, name, inode)
        except FileExistsError:  # not ours to remove
            raise
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.at)
            raise
        if made:
            self.outcome.entries += 1
            if inode.nlink > 1:
                self.first_names.setdefault(inode.number, path)

    def clear(self, name: bytes) -> None:
        """Remove what is in the way, but no directory."""
        try:
            os.unlink(name, dir_fd=self.at)
        except FileNotFoundError:
            return

    def link(self, root: int, path: Trail, name: bytes, inode: Inode) -> bool:
        """Make a further name of a file that is there; False if that cannot be."""
        known = self.first_names[inode.number]
        *above, first = known.names()
        if len(above) > _DEEPEST:
            raise OSError(errno.ENAMETOOLONG, "is a link to a file that is too deep in the tree")
        fd = os.dup(root)
        try:
            for part in above:
                below = os.open(part, os.O_PATH | _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            os.link(first, name, src_dir_fd=fd, dst_dir_fd=self.at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            self.waive(path, f"is a copy: no link to /{os.fsdecode(known.shown)}: {error.strerror}")
            return False
        finally:
            os.close(fd)
        return True

    def make(self, path: Trail, name: bytes, inode: Inode) -> bool:
        """Make a file, symlink or node with all it has; False if it is waived."""
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFREG:
            fd = os.open(name, _NEW, 0o600, dir_fd=self.at)
            try:
                copy_file(self.image, inode, fd, self.blocks)
                self.metadata.apply(fd, path, inode)
            finally:
                os.close(fd)
            return True
        if kind == stat.S_IFLNK:
            os.symlink(_sound(self.image.readlink(inode.ref)), name, dir_fd=self.at)
        else:
            try:
                os.mknod(name, kind | 0o600, inode.rdev, dir_fd=self.at)
            except PermissionError:
                self.waive(path, "is a device, which only root can make")
                return False
        self.metadata.apply_at(self.at, name, path, inode)
        return True


def _flaw(name: bytes, seen: set[bytes]) -> str:
    """Return what is wrong with a name in a directory in which others were seen; nothing for a good one.

    pysquashfs lists no such names; where it matters most, that is not relied on.
    """
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        return "is no name for a file"
    return "is there twice" if name in seen else ""


def _sound(target: bytes) -> bytes:
    """Return a symlink's target if one can be made with it."""
    if not target or b"\0" in target:
        raise OSError(errno.EIO, f"is a symlink to {os.fsdecode(target)!r}")
    return target


def _identity(fd: int) -> tuple[int, int]:
    st = os.fstat(fd)
    return st.st_dev, st.st_ino
