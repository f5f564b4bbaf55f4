"""Every byte of a package looked at: its header, each directory, inode and xattr, each data block uncompressed.

What is found wrong does not end the search. Blocks that several files share are looked at once. Threads uncompress;
few blocks are under way at a time, so an image of any size takes little memory.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from layerfs.errors import Corrupt
from layerfs.pysquashfs import NO_XATTRS, DirEntry, Inode, Piece, SquashfsError, SquashfsImage
from layerfs.pysquashfs.blockcache import AHEAD, BlockCache, job_of
from layerfs.pysquashfs.trail import Trail
from layerfs.xar.header import Remark
from layerfs.xar.package import Package, opened, reason

ENOUGH: Final = 100  # flaws; more of them say no more
UNREADABLE: Final = -1  # instead of a block's length


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong with it; `size` [bytes] counts all files' data, shared or not."""

    flaws: list[str] = field(default_factory=list)
    remarks: tuple[Remark, ...] = ()
    warnings: list[str] = field(default_factory=list)
    inodes: int = 0
    blocks: int = 0
    size: int = 0


class _Enough(Exception):
    """Raised when so much is wrong that the search ends."""


def verify(path: bytes, progress: Callable[[int, int], None] = lambda done, total: None, asked: int = 0) -> Findings:
    """Look at a whole package; `progress` is told how many of its inodes were seen, `asked` is as for `opened`.

    Raises NotImage and OSError for what is no package; whatever is wrong in one is a flaw in the report.
    """
    report = Findings()
    try:
        with opened(path, asked) as package, BlockCache() as blocks:
            report.remarks = package.header.remarks if package.header else ()
            try:
                _Inspection(package, report, blocks, progress).run()
                report.warnings += _warnings(package)
            except _Enough:
                report.flaws.append("and so on: the search ends here")
    except Corrupt as error:
        report.flaws.append(error.message.removeprefix(f"{os.fsdecode(path)}: "))
    except SquashfsError as error:
        report.flaws.append(reason(error))
    return report


class _Inspection:
    """One image being looked at."""

    def __init__(
        self, package: Package, report: Findings, cache: BlockCache, progress: Callable[[int, int], None]
    ) -> None:
        self.image: SquashfsImage = package.image
        self.file_size = package.size - package.offset
        self.report = report
        self.cache = cache
        self.progress = progress
        self.seen: dict[int, int] = {}  # inode number -> its reference
        self.blocks: dict[tuple[int, int], int] = {}  # where and how it is stored -> length [bytes]
        self.coming: dict[tuple[int, int], list[tuple[Trail, Piece]]] = {}  # blocks under way, and what wants them
        self.directories: list[tuple[Trail, Inode]] = []

    def run(self) -> None:
        superblock = self.image.superblock
        if superblock.bytes_used > self.file_size:
            self.flaw("the image", f"has {superblock.bytes_used} bytes, of which the file holds {self.file_size}")
        self.visit(Trail(None, b""), self.image.root)
        while self.directories:
            self.directory(*self.directories.pop())
        while self.coming:
            self.settle()
        if superblock.inode_count != len(self.seen) and not self.report.flaws:
            self.flaw("the superblock", f"says {superblock.inode_count} inodes, there are {len(self.seen)}")
        self.report.inodes, self.report.blocks = len(self.seen), len(self.blocks)

    def flaw(self, where: str, said: str) -> None:
        self.report.flaws.append(f"{where}: {said}")
        if len(self.report.flaws) >= ENOUGH:
            raise _Enough

    def directory(self, path: Trail, inode: Inode) -> None:
        try:
            entries = self.image.readdir(inode.ref)
        except SquashfsError as error:
            return self.flaw(_shown(path), reason(error))
        names = [entry.name for entry in entries]
        if names != sorted(names):  # the kernel reads them, but not each look-up finds its name
            self.flaw(_shown(path), "directory entries are out of order")
        for entry in entries:
            self.entry(Trail(path, entry.name), entry)

    def entry(self, path: Trail, entry: DirEntry) -> None:
        try:
            inode = self.image.inode(entry.ref)
        except SquashfsError as error:
            return self.flaw(_shown(path), reason(error))
        if stat.S_IFMT(inode.mode) != stat.S_IFMT(entry.mode_type):
            self.flaw(_shown(path), "its directory says another type than its inode")
        if self.seen.get(inode.number, entry.ref) != entry.ref:
            self.flaw(_shown(path), f"has the inode number {inode.number} of another file")
        self.visit(path, inode)

    def visit(self, path: Trail, inode: Inode) -> None:
        """Check an inode, once for all its names."""
        again = inode.number in self.seen
        self.seen.setdefault(inode.number, inode.ref)
        if again:
            if stat.S_ISDIR(inode.mode):
                self.flaw(_shown(path), "is a directory that has a second place in the tree")
            return
        self.progress(len(self.seen), self.image.superblock.inode_count)
        try:
            self.content(path, inode)
            if inode.xattr != NO_XATTRS:
                self.image.xattrs(inode.ref)
        except SquashfsError as error:
            self.flaw(_shown(path), reason(error))

    def content(self, path: Trail, inode: Inode) -> None:
        if stat.S_ISDIR(inode.mode):
            self.directories.append((path, inode))
        elif stat.S_ISLNK(inode.mode):
            target = self.image.readlink(inode.ref)
            if not target or b"\0" in target:
                self.flaw(_shown(path), f"is a symlink to {_quoted(target)}")
        elif stat.S_ISREG(inode.mode):
            self.report.size += inode.size
            self.file(path, inode)

    def file(self, path: Trail, inode: Inode) -> None:
        for piece in self.image.stored_pieces(inode.ref):
            self.piece(path, piece)

    def piece(self, path: Trail, piece: Piece) -> None:
        """Have a block uncompressed unless it was, and compare its length with what a file wants of it."""
        key = piece.position, piece.stored
        if key in self.blocks:
            return self.compare(path, piece, self.blocks[key])
        if key not in self.coming:
            self.coming[key] = []
            self.cache.prefetch([job_of(self.image, piece)])
        self.coming[key].append((path, piece))
        while len(self.coming) >= min(AHEAD, self.cache.limit // self.image.superblock.block_size):
            self.settle()

    def settle(self) -> None:
        """Wait for the block that was requested first."""
        key = next(iter(self.coming))
        wanted = self.coming.pop(key)
        try:
            self.blocks[key] = len(self.cache.take(*job_of(self.image, wanted[0][1])))
        except SquashfsError as error:
            self.blocks[key] = UNREADABLE
            self.flaw(_shown(wanted[0][0]), reason(error))
        for path, piece in wanted[self.blocks[key] == UNREADABLE :]:
            self.compare(path, piece, self.blocks[key])

    def compare(self, path: Trail, piece: Piece, length: int) -> None:
        if length == UNREADABLE:
            self.flaw(_shown(path), f"shares the unreadable block at byte {piece.position} of the image")
        elif piece.start + piece.length > length:
            wanted = f"bytes {piece.start} to {piece.start + piece.length}"
            block = f"the block at byte {piece.position} of the image"
            self.flaw(_shown(path), f"wants {wanted} of {block}, which has {length}")


def _warnings(package: Package) -> list[str]:
    """Return warnings of what is undamaged and yet cannot work, such as a target that is not in the package."""
    header = package.header
    if header is None or header.target is None or header.dependencies:  # the target may be in what it depends on
        return []
    try:
        package.image.lookup(os.fsencode(header.target))
    except SquashfsError as error:
        return [f"the target {header.target} is not in the image"] if error.errno == errno.ENOENT else []
    return []


def _shown(path: Trail) -> str:
    return f"/{os.fsdecode(path.shown)}"


def _quoted(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))
