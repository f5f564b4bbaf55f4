"""The marks that overlays leave on disk: recognising every one of them, and writing those the kernel reads.

Sources: Documentation/filesystems/overlayfs.rst ("whiteouts and opaque directories", "redirect_dir", "user xattr"),
the OCI image specification's layer.md (`.wh.` files), and fuse-overlayfs's manual.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from layerfs.sys import dirs, target
from layerfs.value import value

if TYPE_CHECKING:
    from layerfs.union.shown import Attributes

WH: Final = b".wh."
NAME_MAX: Final = 255
REDIRECT_MAX: Final = 4096  # bytes; PATH_MAX. Overlays write 255 at most
OPAQUE_FILES: Final = frozenset((b".wh..wh..opq", b".wh..opq"))
NO_DEVICE: Final = 0  # makedev(0, 0)
SHARED: Final = b"whiteout"  # in the scratch directory

TRUSTED: Final = "trusted.overlay."
USER: Final = "user.overlay."
OVERLAYS: Final = (TRUSTED, USER)
_PRIVATE: Final = (
    *OVERLAYS,
    "user.fuseoverlayfs.",
    "security.fuseoverlayfs.",
    "trusted.fuseoverlayfs.",
    "user.containers.override_stat",
)
_OPAQUE: Final = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


@value
class DirMarks:
    """What the xattrs of a directory in one layer say about the layers below it."""

    opaque: bool = False
    xattr_whiteouts: bool = False
    redirect: bytes | None = None


PLAIN: Final = DirMarks()


def is_private(name: str) -> bool:
    """Tell whether an xattr belongs to the overlay itself, and so can be neither seen nor set from above."""
    return name.startswith(_PRIVATE)


def is_marker_name(name: bytes) -> bool:
    """Tell whether a name can only be a mark (`.wh.NAME`), never a file that a user may create."""
    return name.startswith(WH)


def has_file_form(name: bytes) -> bool:
    """Tell whether a whiteout of this name can be a file `.wh.NAME`."""
    return len(WH + name) <= NAME_MAX


def is_whiteout(st: "Attributes") -> bool:
    """Tell whether a stat is a whiteout's: character device 0/0."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == NO_DEVICE


def names_whiteout(names: Sequence[str]) -> bool:
    """Tell from its xattrs whether a zero-size file is a whiteout (kernel >= 6.7; in directories marked opaque=x)."""
    return any(f"{prefix}whiteout" in names for prefix in OVERLAYS)


def marks_of(
    names: Sequence[str], get: Callable[[str], bytes | None], redirects_in: Sequence[str] = OVERLAYS
) -> DirMarks:
    """Return a directory's marks: of its xattrs, which `names` lists and `get` reads; a redirect by these prefixes."""
    values = [get(name) for name in _OPAQUE if name in names]
    redirects = (get(f"{prefix}redirect") for prefix in redirects_in if f"{prefix}redirect" in names)
    return DirMarks(
        opaque=b"y" in values,
        xattr_whiteouts=b"x" in values,
        redirect=next((read_redirect(value) for value in redirects), None),
    )


def read_redirect(stored: bytes | None) -> bytes | None:
    """Read a redirect; one that is malformed is no redirect (fs/overlayfs/util.c refuses it as well).

    What is returned leads nowhere but downwards: its names are neither empty nor `.` nor `..`.
    """
    value = (stored or b"").rstrip(b"\0")
    if len(value) > REDIRECT_MAX:  # each part is a step in each layer below
        return None
    parts = value[1:].split(b"/") if value.startswith(b"/") else [value]
    return value if all(is_name(part) for part in parts) else None


def is_name(text: bytes) -> bool:
    """Tell whether a text that a layer holds can be one name in a directory, and no way out of it."""
    return 0 < len(text) <= NAME_MAX and text not in (b".", b"..") and b"/" not in text and b"\0" not in text


def make_mark_file(at: int, name: bytes) -> None:
    """Leave an empty file that is a mark by its name alone: whatever is there by that name is one already."""
    with suppress(FileExistsError):
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=at))


class Marks:
    """Writes marks in one upper, in the form that kernel overlayfs will read back there.

    `prefix` is trusted.overlay. for root and user.overlay. (userxattr) for everyone else. Where even char 0/0 cannot
    be made (kernel < 5.8, a seccomp filter) whiteouts become `.wh.` files, which fuse-overlayfs and OCI tools read,
    and for names that are too long for that, xattr whiteouts.
    """

    __slots__ = ("_scratch", "can_hide", "devices", "prefix", "xattrs")

    def __init__(self, scratch: int, *, user: bool = False) -> None:
        """Try what this upper's filesystem and our privileges permit, in its empty scratch directory.

        `user` says that marks are to be user.* in any case.
        """
        self._scratch = scratch
        self.prefix = OVERLAYS[1]
        self.xattrs = False
        for prefix in OVERLAYS[1:] if user else OVERLAYS:
            if _try_xattr(scratch, prefix):
                self.prefix, self.xattrs = prefix, True
                break
        self.devices = _try_device(scratch)
        self.can_hide = self.devices or _try_file(scratch)

    @property
    def trusted(self) -> bool:
        """Whether marks are trusted.*: the kernel then follows redirects by default."""
        return self.xattrs and self.prefix == OVERLAYS[0]

    def set_opaque(self, path: dirs.Target, inside: int | None = None) -> None:
        """Mark a directory of ours opaque; by a file in it (`inside`: its descriptor) when it cannot carry xattrs."""
        if self.xattrs:
            dirs.set_own_xattr(path, f"{self.prefix}opaque", b"y")
        elif inside is not None:
            dirs.insist(inside, lambda: make_mark_file(inside, b".wh..wh..opq"))

    def set_redirect(self, path: dirs.Target, target: bytes) -> None:
        """Redirect a directory's lower layers to an absolute path in them."""
        dirs.set_own_xattr(path, f"{self.prefix}redirect", target)

    def make(self, at: int, name: bytes) -> None:
        """Place a whiteout at a free name; needs `devices`. EEXIST if the name is taken.

        All are links of one device, as the kernel's are: a link costs a tenth of a new inode.
        """
        for _ in range(2):
            try:
                os.link(SHARED, name, src_dir_fd=self._scratch, dst_dir_fd=at, follow_symlinks=False)
                return
            except FileNotFoundError:
                os.mknod(SHARED, stat.S_IFCHR, NO_DEVICE, dir_fd=self._scratch)
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                dirs.remove(self._scratch, SHARED)
        os.mknod(name, stat.S_IFCHR, NO_DEVICE, dir_fd=at)

    def make_by_xattr(self, name: bytes, home: int) -> None:
        """Make a whiteout for the directory `home` in the scratch directory, where neither other form can be."""
        if not self.xattrs:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        dirs.set_own_xattr(home, f"{self.prefix}opaque", b"x")
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self._scratch)
        try:
            target.setxattr(fd, f"{self.prefix}whiteout", b"y")
        finally:
            os.close(fd)


def _try_xattr(scratch: int, prefix: str) -> bool:
    try:
        target.setxattr(scratch, f"{prefix}opaque", b"n")
        target.removexattr(scratch, f"{prefix}opaque")
    except OSError:  # EPERM, EOPNOTSUPP: the answer we asked for
        return False
    return True


def _try_file(scratch: int) -> bool:
    """Try whether a `.wh.` file may be made: an overlay below keeps such names to itself."""
    try:
        make_mark_file(scratch, b".wh.try")
    except PermissionError:
        return False
    dirs.remove(scratch, b".wh.try")
    return True


def _try_device(scratch: int) -> bool:
    try:
        os.mknod(b"whiteout", stat.S_IFCHR, NO_DEVICE, dir_fd=scratch)
    except OSError:  # EPERM, EINVAL, EOPNOTSUPP: the answer we asked for
        return False
    os.unlink(b"whiteout", dir_fd=scratch)
    return True
