"""What may be a layer. It is decided here and nowhere else: by the type of a file, and by its first bytes.

    DIRECTORY   a directory of the host
    SQUASHFS    a regular file or a block device that begins with `hsqs`, or has it at the byte that `-o offset=` names
    XAR         a file that begins with a XAR header, which says where its squashfs image is

A new image format is a member of LayerKind, its magic in `_recognise` and its tree in `open_tree`.

A directory costs one stat(2) and no import: this lies on the way of every mount.
"""

import os
import stat
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from layerfs.errors import Corrupt, InvalidArgument, Unsupported
from layerfs.model import Stack
from layerfs.value import value

if TYPE_CHECKING:
    from layerfs.pysquashfs import SquashfsError
    from layerfs.union.layers import Tree


class LayerKind(Enum):
    """What a layer is, in the words of a person."""

    DIRECTORY = "a directory"
    SQUASHFS = "a squashfs image"
    XAR = "a XAR"


@value
class Lower:
    """A layer as it was found at its path; `offset` [bytes] is where in the file its image begins."""

    path: bytes
    kind: LayerKind
    offset: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it is a file with a tree in it, so that something must read or mount it."""
        return self.kind is not LayerKind.DIRECTORY


def look(path: bytes, offset: int | None = None) -> Lower:
    """Return what is at a path; `offset` [bytes] is what `-o offset=` says of images, which XARs know themselves.

    Raises NotImage (InvalidArgument) for what cannot be a layer, Corrupt for a bad XAR header, OSError.
    """
    if stat.S_ISDIR(os.stat(path).st_mode):
        return Lower(path, LayerKind.DIRECTORY)
    layer, fd = _open_image(path, offset)
    os.close(fd)
    return layer


def is_image(path: bytes) -> bool:
    """Tell whether a layer is a file, and so to be opened as an image. Absent is no image."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(kind) or stat.S_ISBLK(kind)


def open_tree(path: bytes, index: int, *, offset: int | None = None) -> "Tree":
    """Open a layer as a tree of a union, `index` being its place in the stack; `offset` as for `look`.

    Raises InvalidArgument, Corrupt or Unsupported for a file that cannot be used, OSError for a directory.
    """
    if not is_image(path):
        from layerfs.union.layers import DirTree  # a kernel mount of directories needs no trees

        return DirTree(path, index)
    from layerfs.lowers.squash import SquashLower
    from layerfs.pysquashfs import SquashfsError  # costs some milliseconds

    layer, fd = _open_image(path, offset)
    try:
        return SquashLower(path, index, fd, layer.offset)
    except SquashfsError as error:
        raise _explained(error) from None
    finally:
        os.close(fd)


def opener(stack: Stack) -> "Callable[[bytes, int], Tree]":
    """Return what opens the lowers of a stack: `open_tree`, told where its images begin."""
    return partial(open_tree, offset=stack.offset) if stack.offset else open_tree


def _open_image(path: bytes, offset: int | None) -> tuple[Lower, int]:
    """Open what is no directory, once its type is known, and say what it is by what was opened."""
    from layerfs.xar.image_file import open_image

    fd = open_image(path)
    try:
        return _recognise(fd, path, offset), fd
    except BaseException:
        os.close(fd)
        raise


def _recognise(fd: int, path: bytes, offset: int | None) -> Lower:
    from layerfs.xar.image_file import NotImage, is_xar, offset_of

    kind = LayerKind.XAR if is_xar(fd) else LayerKind.SQUASHFS
    try:
        return Lower(path, kind, offset_of(fd, path, offset))
    except NotImage as error:
        raise NotImage(error.message, error.hint or "-o offset=BYTES names an image inside another file") from None


def _explained(error: "SquashfsError") -> Exception:
    import errno

    if error.code == "SFQS_ERROR_SUPER_VERSION":
        return Unsupported(str(error), "make the image anew with mksquashfs 4 or `layerfs xar build`")
    if error.errno == errno.EOPNOTSUPP:
        return Unsupported(str(error), "make the image with a compressor that this host's libsquashfs has")
    if error.errno in (errno.EIO, errno.EINVAL, errno.E2BIG):
        return Corrupt(str(error), "make or fetch the image anew; `layerfs xar verify` says more")
    return InvalidArgument(str(error))
