"""Files whose metadata were copied up without their data (`overlay.metacopy`): read, completed, made where asked for.

They are made with `metacopy=on` where kernel overlayfs makes them, too: with trusted.* marks and redirects. Each says
where its data are from the root of the layers on, so it may be renamed and linked as it is.

What says that a file is one, and where its data are, comes from a layer. It is believed only in the xattrs that
redirects are believed in; in lowers only with `metacopy=on`, as in the kernel. The data must be a regular file of a
layer below, on a way that leads through no symlink and not upwards.
"""

import errno
import os
import stat
from contextlib import closing

from layerfs.sys import dirs, target
from layerfs.sys.copy import Progress, nothing
from layerfs.sys.durable import make_durable
from layerfs.union import opened
from layerfs.union.hardlinks import IndexedCopy
from layerfs.union.inodes import Directory, File
from layerfs.union.layers import Part, Ref
from layerfs.union.opened import Handle
from layerfs.union.options import RedirectDir
from layerfs.union.readdir import parts_of
from layerfs.union.redirect import lower_path, targets
from layerfs.union.shown import BLOCK, Attributes, Shown, has_holes
from layerfs.union.state import Overlay, Writable
from layerfs.union.whiteout import TRUSTED, read_redirect

_METACOPY, _REDIRECT = "metacopy", "redirect"  # below a prefix
REDIRECT_MAX = 255  # bytes; longer redirects the kernel does not write either (OVL_REDIRECT_MAX), and ext4 may not hold


def trail_of(ov: Writable, node: File) -> bytes | None:
    """Return where a copy of a lower file's metadata would find its data; None where none is made, or none is read."""
    part = node.part
    if not _are_made(ov) or part is None or part.is_upper or not node.is_regular:
        return None
    if not part.tree.lstat(ov.fd(part), node.name).st_size:
        return None
    return _trail(ov, node, node.name)


def _are_made(ov: Writable) -> bool:
    modes = (RedirectDir.AUTO, RedirectDir.ON)
    trusted = ov.upper.marks.trusted and TRUSTED in ov.mark_trust.prefixes
    return ov.options.metacopy and trusted and ov.options.redirect_dir in modes


def _trail(ov: Writable, node: File, name: bytes) -> bytes | None:
    path = lower_path(ov, node.above()).rstrip(b"/") + b"/" + name
    return path if len(path) <= REDIRECT_MAX else None


def set_marks(ov: Writable, fd: int, trail: bytes) -> None:
    """Mark a file as one that is only metadata, whose data are at `trail` in the layers below."""
    target.setxattr(fd, TRUSTED + _REDIRECT, trail)
    target.setxattr(fd, TRUSTED + _METACOPY, b"")


def finds_data_anywhere(ov: Writable, node: File) -> bool:
    """Mark an upper file that is only metadata so that it finds its data under any name; False if that fails."""
    part = node.part
    if part is None or not _are_made(ov) or not is_incomplete(ov, node):
        return False
    path = dirs.path_of(*_place(ov, node, part))
    trail = read_redirect(dirs.getxattr_or_none(path, TRUSTED + _REDIRECT))
    if trail is None or not trail.startswith(b"/"):
        trail = _trail(ov, node, trail or node.name)
        if trail is None:
            return False
        target.setxattr(path, TRUSTED + _REDIRECT, trail)
    return True


def stays_below(ov: Writable, node: File) -> bool:
    """Tell whether a change of a file, other than to its data, leaves its data in a layer below (renames included)."""
    return trail_of(ov, node) is not None or finds_data_anywhere(ov, node)


def with_blocks(ov: Overlay, part: Part, ref: Ref, st: Attributes) -> Attributes:
    """Show blocks for a file that is only metadata: `tar -S` does not read a file without blocks."""
    names = part.tree.listxattr(ref)
    if not any(prefix + _METACOPY in names for prefix in ov.mark_trust.prefixes):
        return st
    return Shown(st, blocks=-(-st.st_size // BLOCK))


def _place(ov: Overlay, node: File, part: Part) -> tuple[int, bytes]:
    """Return the directory and the name by which a file of the upper is reached: of its copy in the index, that."""
    return part.tree.place if isinstance(part.tree, IndexedCopy) else (ov.fd(part), node.name)


def _marks(ov: Overlay, handle: Handle, mark: str) -> list[str]:
    """Return the trusted xattrs of one kind that an open file has."""
    names = opened.xattrs(handle)
    found = [name for prefix in ov.mark_trust.prefixes if (name := prefix + mark) in names]
    return found if found and ov.mark_trust.covers(opened.stat(handle)) else []


def open_seen(ov: Overlay, node: File, part: Part) -> tuple[Handle, Attributes]:
    """Open a file that `part` has for reading; with what it was found to be when that was checked."""
    found: list[os.stat_result] = []

    def is_expected(st: os.stat_result) -> bool:
        found.append(st)
        return node.is_seen(st)

    handle = part.tree.open(ov.fd(part), node.name, os.O_RDONLY, is_expected)
    return handle, found[0] if found else opened.stat(handle)


def _is_metacopy(ov: Overlay, part: Part, handle: Handle, st: Attributes) -> bool:
    """Tell whether an open file is only metadata, or was being given its data when all ended.

    A lower one that is not to be read is an error (EPERM, as in the kernel), not a file of zeros. It is looked for only
    where a file has holes: a mark costs a system call at each open of a file.
    """
    if part.is_upper or ov.options.metacopy:
        return st.st_size > 0 and bool(_marks(ov, handle, _METACOPY))
    if has_holes(st) and _marks(ov, handle, _METACOPY):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "a lower file without data needs metacopy=on")
    return False


def data_of(ov: Overlay, node: File, part: Part, handle: Handle, st: Attributes) -> Handle:
    """Return the handle that reads the data of a file in `part`: its own, or that of the lower file with the data.

    The handle given stays the caller's; `st` is what it has open.
    """
    return _open_below(ov, node, part, handle) if _is_metacopy(ov, part, handle, st) else handle


class Completion:
    """The data that an upper file, which is only metadata, is given: `copy` in any thread, then `finish`, then `close`.

    Until `finish` the file goes on being read from the layer below; nobody may write to it meanwhile.
    """

    __slots__ = ("_node", "_ov", "_source", "_st", "fd")

    def __init__(self, ov: Writable, node: File, part: Part, fd: int) -> None:
        """Take over `fd`, the file open for writing."""
        self._ov, self._node, self.fd, self._st = ov, node, fd, os.fstat(fd)
        try:
            self._source = _open_below(ov, node, part, fd) if self._st.st_size else None
        except BaseException:
            os.close(fd)
            raise

    @property
    def must_be_durable(self) -> bool:
        """Whether the data are to be on disk before the file says that it has them."""
        return not self._ov.options.volatile

    @property
    def is_needed(self) -> bool:
        """Whether the file still has no data of its own."""
        return bool(_marks(self._ov, self.fd, _METACOPY))

    def copy(self, progress: Progress = nothing) -> None:
        """Copy the data and bring them to disk; `progress` is as for `opened.copy`."""
        if self._source is not None:
            opened.copy(self._source, self.fd, self._st.st_size, progress)
            if self.must_be_durable:
                make_durable(self.fd)

    def finish(self) -> None:
        """Note that the file is complete; who has it open has the data of the layer below no more."""
        if self._source is not None:
            target.utime(self.fd, self._st.st_atime_ns, self._st.st_mtime_ns)
        for mark in (_METACOPY, _REDIRECT):  # in this order: without its redirect it would not find its data any more
            for name in _marks(self._ov, self.fd, mark):
                target.removexattr(self.fd, name)
        extra = self._node.extra
        if extra is not None and not extra.writable:
            extra.retire()

    def close(self) -> None:
        """Close both files."""
        if self._source is not None:
            opened.close(self._source)
        os.close(self.fd)


def completion(ov: Writable, node: File, size: int) -> Completion | None:
    """Begin to complete an upper file that is only metadata and has at least `size` bytes; None for any other."""
    part, extra = node.part, node.extra
    if part is None or part.tree.index or not node.is_regular or (extra is not None and extra.writable):
        return None
    if part.tree.lstat(ov.fd(part), node.name).st_size < size or not is_incomplete(ov, node):
        return None
    return Completion(ov, node, part, _open_to_complete(ov, node, part))


def _open_to_complete(ov: Writable, node: File, part: Part) -> int:
    return ov.upper.tree.open(*_place(ov, node, part), os.O_RDWR, node.is_seen)


def complete(ov: Writable, node: File, part: Part, fd: int, *, cut: bool = False) -> None:
    """Give an upper file that is only metadata its data, before it is written to or leaves its place.

    With `cut` it is to be empty.
    """
    if _marks(ov, fd, _METACOPY):
        if cut:
            os.ftruncate(fd, 0)
        with closing(Completion(ov, node, part, os.dup(fd))) as completing:
            completing.copy()
            completing.finish()


def is_incomplete(ov: Writable, node: File) -> bool:
    """Tell whether an upper file says that it is only metadata; whether that is believed shows when it is open."""
    part = node.part
    if part is None or part.tree.index or not node.is_regular:
        return False
    names = dirs.xattrs(dirs.path_of(*_place(ov, node, part)))
    return any(prefix + _METACOPY in names for prefix in ov.mark_trust.prefixes)


def complete_in_place(ov: Writable, node: File) -> None:
    """As `complete`, for a file that is not open."""
    if node.part is None or not is_incomplete(ov, node):
        return
    fd = _open_to_complete(ov, node, node.part)
    try:
        complete(ov, node, node.part, fd)
    finally:
        os.close(fd)


def complete_before_removal(ov: Writable, node: File) -> None:
    """Give a file that is only metadata its data while its name, and with it those below, can be found.

    Who has it open has the lower file's data open, by which nothing may be changed.
    """
    extra = node.extra
    if extra is not None and extra.data is not None and not extra.writable and is_incomplete(ov, node):
        complete_in_place(ov, node)


def _open_below(ov: Overlay, node: File, part: Part, handle: Handle) -> Handle:
    """Open the data of a file that is only metadata, through as many others as there are layers."""
    parent, name, above, own = node.above(), node.name, part, handle
    try:
        while True:
            part, name, found = _next_below(ov, parent, above, name, own)
            if own is not handle:
                opened.close(own)
            above, own = part, found
            if not _is_metacopy(ov, part, own, opened.stat(own)):
                return own
    except BaseException:
        if own is not handle:
            opened.close(own)
        raise


def _next_below(ov: Overlay, parent: Directory, above: Part, name: bytes, handle: Handle) -> tuple[Part, bytes, Handle]:
    """Open the file that an open one, which is only metadata, stands for in the next layer that has it."""
    trail: bytes | None = name
    for mark in _marks(ov, handle, _REDIRECT)[:1]:
        trail = read_redirect(opened.getxattr_or_none(handle, mark))
    if trail is None:
        raise _without_data(name)
    for part, below in _candidates(ov, parent, above, trail):
        try:
            st = part.tree.lstat(ov.fd(part), below)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(st.st_mode):
            break
        return part, below, part.tree.open(ov.fd(part), below, os.O_RDONLY)
    raise _without_data(name)


def _without_data(name: bytes) -> OSError:
    return OSError(errno.EIO, "data of a metacopy file are in no layer", name)


def _candidates(ov: Overlay, parent: Directory, above: Part, trail: bytes) -> list[tuple[Part, bytes]]:
    """Return where the data may be: top first."""
    directory, _, name = trail.rpartition(b"/")
    if directory:
        return [(part, name) for part in targets(ov, parent, above, directory)]
    if trail.startswith(b"/"):
        return [(Part(tree, None, b"", tree.root()), name) for tree in ov.lowers[above.tree.index :]]
    return [(part, name) for part in parts_of(ov, parent).lowers if part.tree.index > above.tree.index]
