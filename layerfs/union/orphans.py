"""Files whose last name is gone while somebody still has them open, or knows them by number.

A descriptor keeps each of them, which is the quick way. But a client may have any number of them, and descriptors are
for all clients. So where they get scarce such a file is kept by a name: a further one in the scratch directory, which
goes with its last user, or in a lower the one that it still has there. It is then opened again whenever it is needed,
and its descriptor may be closed as that of any other file.
"""

import errno
import os

from layerfs.union.inodes import File
from layerfs.union.layers import DirTree, Part
from layerfs.union.open_state import KeptAt
from layerfs.union.opened import Handle
from layerfs.union.state import Overlay, Writable


def hold(ov: Writable, node: File) -> None:
    """Keep a file whose last known name is about to go. Raises ENFILE where nothing more can be kept."""
    extra, part = node.opened(), node.part
    if part is None or extra.is_held_by_name:
        return
    if ov.files.is_crowded and _keep_by_name(ov, node, part):
        return
    ov.files.check_room()
    if not extra.is_held:
        extra.pinned = part.tree.pin(ov.fd(part), node.name, node.is_seen)
    ov.files.hold(node)


def _keep_by_name(ov: Writable, node: File, part: Part) -> bool:
    """Find a name for a file; False where there can be none."""
    if part.tree is ov.upper.tree:
        work = ov.upper.work
        name = work.name()
        try:
            os.link(node.name, name, src_dir_fd=ov.fd(part), dst_dir_fd=work.fd, follow_symlinks=False)
        except OSError:
            return False  # a filesystem without links, or one too many
        node.opened().kept_at = in_work(ov, name)
        return True
    if part.tree.index and type(part.tree) is DirTree:
        node.opened().kept_at = part, node.name, node.is_seen
        return True
    return False


def keep_staged(ov: Writable, node: File, name: bytes) -> None:
    """Keep the copy of a file without a name, which is at a name in the scratch directory."""
    extra = node.opened()
    extra.forget_kept()
    if ov.files.is_crowded:
        extra.kept_at = in_work(ov, name)
    else:
        os.unlink(name, dir_fd=ov.upper.work.fd)
        ov.files.hold(node)


def in_work(ov: Writable, name: bytes) -> KeptAt:
    """Return where a file in the scratch directory is found again, with its identity: its owner may exchange it."""
    work = ov.upper.work.fd
    st = os.lstat(name, dir_fd=work)

    def is_expected(found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) == (st.st_dev, st.st_ino)

    return Part(ov.upper.tree, None, b"", work), name, is_expected


def anchor(ov: Overlay, node: File) -> Handle:
    """Return a handle by which a file without a name is reached, good until the next call; ESTALE if it is gone."""
    extra = node.opened()
    if extra.data is not None:
        return extra.data
    if extra.pinned is not None:
        return extra.pinned
    if extra.kept_at is None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    part, name, is_expected = extra.kept_at
    return ov.lend(part.tree.pin(ov.fd(part), name, is_expected))
