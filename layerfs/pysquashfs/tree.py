"""The tree that an image will be: names and attributes in memory, content already written; checked while it grows."""

import errno
import os
import stat
from collections.abc import Iterator

from layerfs.pysquashfs.errors import SquashfsError
from layerfs.pysquashfs.filespec import XATTR_PREFIXES, FileSpec

NAME_MAX = 256  # bytes; squashfs_fs.h: SQUASHFS_NAME_LEN
TARGET_MAX = 4096  # bytes; a page: the kernel refuses longer symlinks (fs/squashfs/inode.c)
XATTR_NAME_MAX, XATTR_VALUE_MAX = 255, 65536  # bytes; xattr(7)
ID_MAX = 0xFFFFFFFF
MAJOR_MAX, MINOR_MAX = 0xFFF, 0xFFFFF  # the 32 bits of new_encode_dev (linux/kdev_t.h)


class ImageNode:
    """A file of the image: what its inode will hold. An entry's content is not kept, only the writer's index of it."""

    __slots__ = (
        "children", "gid", "index", "links", "mode", "mtime", "number",
        "parent", "rdev", "ref", "target", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, entry: FileSpec, parent: "ImageNode | None") -> None:
        self.parent = parent
        self.children: dict[bytes, ImageNode] = {}
        self.links = 2 if stat.S_ISDIR(entry.mode) else 1
        self.index = 0  # the writer's, of content or listing
        self.number = 0  # known when the whole tree is
        self.ref = -1  # known when the inode is written
        self.describe(entry)

    def describe(self, entry: FileSpec) -> None:
        """Take an entry's attributes over."""
        self.mode, self.uid, self.gid, self.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
        self.target, self.rdev, self.xattrs = entry.target, entry.rdev, entry.xattrs

    @property
    def is_directory(self) -> bool:
        """Whether it has children, or may have."""
        return stat.S_ISDIR(self.mode)


class ImageTree:
    """Names are added parents first; then the order in which everything is written can be asked for."""

    def __init__(self) -> None:
        self.root = ImageNode(FileSpec(b"", stat.S_IFDIR | 0o755), None)  # until an entry describes it
        self.rooted = False
        self._directories = {b"": self.root}

    def add(self, entry: FileSpec) -> ImageNode | None:
        """Put an entry into the tree; returns its node, or None for a further name of a node that is there.

        Raises SquashfsError naming the path: EINVAL, ENAMETOOLONG, ENOENT (parent, or what a link is to), ENOTDIR,
        EEXIST, EOPNOTSUPP (attributes that squashfs cannot hold).
        """
        if entry.link is None:
            check_entry(entry)
            check_xattrs(entry)
        if not entry.path:
            return self._add_root(entry)
        parent, name = self._place(entry.path)
        if name in parent.children:
            raise refused(errno.EEXIST, entry.path, "is there twice")
        if entry.link is not None:
            node = self._linked(entry)
            node.links += 1
            parent.children[name] = node
            return None
        node = parent.children[name] = ImageNode(entry, parent)
        if stat.S_ISDIR(entry.mode):
            self._directories[entry.path] = node
            parent.links += 1
        return node

    def _add_root(self, entry: FileSpec) -> ImageNode:
        if self.rooted or entry.link is not None or not stat.S_ISDIR(entry.mode):
            raise refused(errno.EINVAL, b"", "is one directory, given once")
        self.rooted = True
        self.root.describe(entry)
        return self.root

    def _place(self, path: bytes) -> tuple[ImageNode, bytes]:
        """The directory that a path is in, and its name there."""
        above, _, name = path.rpartition(b"/")
        parent = self._directories.get(above)
        if parent is None or name in (b"", b".", b"..") or b"\0" in name or (not above and path[:1] == b"/"):
            raise self._misplaced(path)
        if len(name) > NAME_MAX:
            raise refused(errno.ENAMETOOLONG, path, f"has a name of {len(name)} bytes, {NAME_MAX} are possible")
        return parent, name

    def _misplaced(self, path: bytes) -> SquashfsError:
        names = path.split(b"/")
        if b"" in names or b"." in names or b".." in names or b"\0" in path:
            return refused(errno.EINVAL, path, "is no path from the root: no leading or double slash, no . or ..")
        for count in range(1, len(names)):
            above = self._find(b"/".join(names[:count]))
            if above is None:
                return refused(errno.ENOENT, path, "comes before the directory it is in")
            if not above.is_directory:
                return refused(errno.ENOTDIR, path, "is below what is no directory")
        raise AssertionError(path)

    def _find(self, path: bytes) -> ImageNode | None:
        above, _, name = path.rpartition(b"/")
        parent = self._directories.get(above)
        return parent.children.get(name) if parent else None

    def _linked(self, entry: FileSpec) -> ImageNode:
        node = self._find(entry.link or b"")
        if node is None:
            raise refused(errno.ENOENT, entry.path, f"is a link to {os.fsdecode(entry.link or b'')!r}, not there yet")
        if node.is_directory:
            raise refused(errno.EINVAL, entry.path, "is a link to a directory")
        return node

    def number(self) -> list[ImageNode]:
        """Number all nodes in the order of their inodes on disk; returns the directories in the order of listings.

        A directory's children have neighbouring inodes, sorted by name, so that a listing with attributes reads few
        blocks; their own listings come before them, since a directory's inode says where its listing is.
        """
        listings = list(self._listings())
        last = 0
        for directory in listings:
            directory.children = dict(sorted(directory.children.items()))
            for node in directory.children.values():
                if not node.number:
                    last = node.number = last + 1
        self.root.number = last + 1
        return listings

    def _listings(self) -> Iterator[ImageNode]:
        """Directories, children before parents, names sorted."""
        waiting = [self.root]
        found = []
        while waiting:  # the mirror image of what is wanted: parents first, names from the end
            directory = waiting.pop()
            found.append(directory)
            inner = [pair for pair in directory.children.items() if pair[1].is_directory]
            waiting += [node for _, node in sorted(inner)]
        return reversed(found)


def check_entry(entry: FileSpec) -> None:
    """Raise SquashfsError for attributes that no image can hold."""
    kind = stat.S_IFMT(entry.mode)
    if stat.filemode(entry.mode)[0] not in "-dlbcps" or entry.mode & ~(0o7777 | 0o170000):
        raise refused(errno.EINVAL, entry.path, f"has mode {entry.mode:#o}, which is no type of file")
    if not (0 <= entry.uid <= ID_MAX and 0 <= entry.gid <= ID_MAX):
        raise refused(errno.EINVAL, entry.path, f"has owner {entry.uid}:{entry.gid}, not within 32 bits")
    if kind == stat.S_IFLNK and (not entry.target or b"\0" in entry.target):
        raise refused(errno.EINVAL, entry.path, "is a symlink to nothing")
    if len(entry.target) > TARGET_MAX:
        raise refused(errno.ENAMETOOLONG, entry.path, f"is a symlink to more than {TARGET_MAX} bytes")
    if kind in (stat.S_IFBLK, stat.S_IFCHR) and not fits(entry.rdev):
        raise refused(errno.EINVAL, entry.path, "has a device number of more than 12 and 20 bits")


def check_xattrs(entry: FileSpec) -> None:
    """Raise SquashfsError for extended attributes that squashfs or Linux cannot hold."""
    for name, value in entry.xattrs.items():
        shown = os.fsdecode(name)
        if not name.startswith(XATTR_PREFIXES):
            raise refused(errno.EOPNOTSUPP, entry.path, f"has attribute {shown}: only user, trusted and security")
        if name in XATTR_PREFIXES or b"\0" in name or len(name) > XATTR_NAME_MAX:
            raise refused(errno.EINVAL, entry.path, f"has an attribute of the bad name {shown!r}")
        if len(value) > XATTR_VALUE_MAX:
            raise refused(errno.E2BIG, entry.path, f"has attribute {shown} of {len(value)} bytes")


def fits(rdev: int) -> bool:
    """Whether a device number fits into the 32 bits on disk."""
    return 0 <= rdev and os.major(rdev) <= MAJOR_MAX and os.minor(rdev) <= MINOR_MAX


def device_on_disk(rdev: int) -> int:
    """The kernel's new_encode_dev (linux/kdev_t.h)."""
    major, minor = os.major(rdev), os.minor(rdev)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def refused(number: int, path: bytes, why: str) -> SquashfsError:
    """What is wrong with an entry."""
    return SquashfsError(number, why, filename=None, what=os.fsdecode(path) or "the root")
