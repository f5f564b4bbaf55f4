"""A squashfs image as a lower of the union, read in-process: no mount, no loop device, no second server.

Directories are known by the reference of their inode, so opening one costs nothing. A directory is read once with all
its inodes (one call of our C a batch); attributes then come from memory. Listings are kept within a bound and
read again when they are needed: an image does not change.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn, TypeVar

from layerfs.lowers.file import CACHE, ImageFile, ImageStat
from layerfs.lowers.source import ImageSource
from layerfs.pysquashfs import NO_XATTRS, Compressor, Inode, SquashfsError, SquashfsImage
from layerfs.pysquashfs.recent import Recent
from layerfs.sys.locks import use_beside
from layerfs.sys.logs import logger
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.union.layers import Expected, Kind, Ref
from layerfs.union.mark_trust import ALL
from layerfs.union.whiteout import NO_DEVICE, PLAIN, DirMarks, marks_of, names_whiteout

LISTED: Final = 20_000  # names in listings that are kept; guessed, about 400 bytes each
FIND: Final = 512  # bytes of a listing that are read in the time that finding one name takes: 5 to 120 us, measured
QUICK: Final = 256 << 10  # bytes; a block up to this size is uncompressed about as soon as a thread begins with it
DEVICES: Final = 1 << 128  # above every st_dev; an image's stands for the file, not for its place in a stack
_SLOW: Final = (Compressor.XZ, Compressor.LZMA)

T = TypeVar("T")


class SquashLower:
    """A squashfs image, bare or in a XAR, as a tree (`layerfs.union.layers.Tree`).

    While it is open it counts as in use (`layerfs.sys.locks`): the owner of a package cache evicts no such file.
    """

    def __init__(self, path: bytes, index: int, fd: int, offset: int) -> None:
        """`fd` is the image's open file, of which a duplicate is used; the image begins at `offset` [bytes]."""
        self.path = path
        self.index = index
        self.override: str | None = None
        self.mark_trust = ALL
        self._fd, self._offset = os.dup(fd), offset
        self._lock = use_beside(path)
        try:
            self.image = SquashfsImage(self._fd, offset=self._offset, name=path)
            try:
                root = self.image.root
            except BaseException:
                self.image.close()
                raise
        except BaseException:
            self._let_go()
            raise
        identity = os.fstat(self._fd)
        self.device = DEVICES + (identity.st_ino << 64) + identity.st_dev
        superblock = self.image.superblock
        self.quick = superblock.compressor not in _SLOW and superblock.block_size <= QUICK
        self._root = root.ref
        self._inodes = {self._root: root}  # of open directories
        self._holders = {self._root: 1}
        self._above: dict[int, int] = {}  # where each directory was met; a loop would have no end
        self._listings: Recent[int, dict[bytes, Inode]] = Recent(LISTED, len)
        self._finds: dict[int, int] = {}  # in each directory since its listing was dropped
        self._trusted: bool | None = None
        self._source: ImageSource | None = None

    def root(self) -> int:
        return self._root

    def open_dir(self, at: int, name: bytes) -> int:
        inode = self._find(at, name)
        if not stat.S_ISDIR(inode.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        if inode.ref == self._root or self._above.setdefault(inode.ref, at) != at:
            self.complain(f"a directory is in two directories, at {os.fsdecode(name)} in the second")
        self._inodes[inode.ref] = inode
        return self.hold_dir(inode.ref)

    def hold_dir(self, handle: int) -> int:
        self._holders[handle] = self._holders.get(handle, 0) + 1
        return handle

    def close_dir(self, handle: int) -> None:
        self._holders[handle] -= 1
        if not self._holders[handle]:
            del self._holders[handle], self._inodes[handle]
            self._finds.pop(handle, None)

    def scan(self, handle: int, *, xattr_whiteouts: bool) -> list[tuple[bytes, Kind]]:
        found = []
        for name, inode in self.listing(handle).items():
            kind = inode.mode & 0o170000
            if kind == stat.S_IFDIR:
                found.append((name, Kind.DIRECTORY))
            elif kind == stat.S_IFCHR and inode.rdev == NO_DEVICE and inode.number:
                found.append((name, Kind.WHITEOUT))
            elif xattr_whiteouts and kind == stat.S_IFREG and not inode.size and self._is_whiteout(inode):
                found.append((name, Kind.WHITEOUT))
            else:
                found.append((name, Kind.OTHER))
        return found

    def _is_whiteout(self, inode: Inode) -> bool:
        return names_whiteout([os.fsdecode(name) for name in self._xattrs(inode)])

    def listing(self, handle: int) -> dict[bytes, Inode]:
        """Return a directory's names with their inodes, which stay for a while."""
        listing = self._listings.get(handle)
        if listing is None:
            listing = dict(self.guarded(partial(self.image.scan, handle)))
            self._finds.pop(handle, None)
            self._listings.put(handle, listing)
        return listing

    def forget_listing(self, handle: int) -> None:
        """Give back what `listing` keeps of a directory; names are then found one by one."""
        self._listings.drop(handle)

    def guarded(self, read: Callable[[], T]) -> T:
        """Call `read`. A corrupt image is logged and becomes EIO: another errno would say something of a name."""
        try:
            return read()
        except SquashfsError as error:
            _log("%s", str(error))  # the error itself would keep the image open
            raise OSError(errno.EIO, os.strerror(errno.EIO), self.path) from None

    def complain(self, what: str) -> NoReturn:
        """Log what is corrupt, and raise EIO."""
        _log("%s: %s", os.fsdecode(self.path), what)
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.path)

    def _find(self, at: int, name: bytes) -> Inode:
        if at in self._listings or not self._is_found_singly(at):
            inode = self.listing(at).get(name)
        else:
            inode = self.guarded(partial(self.image.find, at, name))
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if not inode.number:  # a listing goes on without what it cannot read of one inode
            inode = self.guarded(partial(self.image.inode, inode.ref))
            self.complain(f"the entry {os.fsdecode(name)} and its inode disagree")
        return inode

    def _is_found_singly(self, at: int) -> bool:
        """Tell whether looking up one name in the image is cheaper than reading its large directory again.

        Only until that has cost about as much as reading would have.
        """
        finds = self._finds.get(at, 0) + 1
        if finds > self._inodes[at].size // FIND:
            return False
        self._finds[at] = finds
        return True

    def marks(self, handle: int) -> DirMarks:
        inode = self._inodes[handle]
        if inode.xattr == NO_XATTRS:
            return PLAIN
        found = {os.fsdecode(name): value for name, value in self._xattrs(inode).items()}
        # Who owns a directory in an image is what the image says.
        return marks_of(list(found), found.get, self.mark_trust.prefixes if self.mark_trust.owner is None else ())

    def lstat(self, at: int, name: bytes) -> ImageStat:
        return ImageStat(self._find(at, name), self.device)

    def stat_dir(self, handle: int) -> ImageStat:
        return ImageStat(self._inodes[handle], self.device)

    def statvfs(self) -> os.statvfs_result:
        superblock = self.image.superblock
        size = superblock.block_size
        blocks = -(-superblock.bytes_used // size)
        return os.statvfs_result((size, size, blocks, 0, 0, superblock.inode_count, 0, 0, os.ST_RDONLY, 255))

    def readlink(self, at: int, name: bytes) -> bytes:
        return self.guarded(partial(self.image.readlink, self._find(at, name).ref))

    def reach(self, at: int, name: bytes) -> Ref:
        return self._find(at, name)

    def reach_dir(self, handle: int) -> Ref:
        return self._inodes[handle]

    def listxattr(self, ref: Ref) -> list[str]:
        if ref.xattr == NO_XATTRS:
            return []
        names = [os.fsdecode(name) for name in self._xattrs(ref)]
        if self._trusted is None:
            self._trusted = trusted_xattrs()
        return names if self._trusted else [name for name in names if not name.startswith("trusted.")]

    def getxattr(self, ref: Ref, key: str) -> bytes:
        value = self._xattrs(ref).get(os.fsencode(key))
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return value

    def _xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        return {} if inode.xattr == NO_XATTRS else self.guarded(partial(self.image.xattrs, inode.ref))

    def open(self, at: int, name: bytes, flags: int, is_expected: Expected | None = None) -> ImageFile:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        inode = self._find(at, name)
        if not stat.S_ISREG(inode.mode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        return ImageFile(self, inode)

    def pin(self, at: int, name: bytes, is_expected: Expected | None = None) -> ImageFile:
        return ImageFile(self, self._find(at, name))

    def source(self) -> ImageSource:
        if self._source is None:
            self._source = ImageSource(self)
        return self._source

    def lends_rights(self) -> bool:
        return False  # the owners in an image are what its author wrote

    def close(self) -> None:
        CACHE.forget(self.image.number)
        self._source = None  # it has a hand on the file
        self.image.close()
        self._let_go()

    def _let_go(self) -> None:
        os.close(self._fd)
        if self._lock >= 0:
            os.close(self._lock)

    def will_need(self, position: int, end: int) -> None:
        """Ask the host to read a range of the image. Threads that read parts of it look random."""
        os.posix_fadvise(self._fd, self._offset + position, end - position, os.POSIX_FADV_WILLNEED)


def _log(form: str, *words: str) -> None:
    logger(__name__).warning(form, *words)
