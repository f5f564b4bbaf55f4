"""Opening a layer, whatever it is: a directory of the host, a squashfs image or a XAR."""

import os
import stat
from typing import TYPE_CHECKING

from layerfs.errors import Corrupt, InvalidArgument, Unsupported
from layerfs.union.layers import DirTree, Tree

if TYPE_CHECKING:
    from layerfs.pysquashfs import SquashfsError


def is_image(path: bytes) -> bool:
    """Tell whether a layer is a regular file, and so to be opened as an image. Absent is no image."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def open_tree(path: bytes, index: int) -> Tree:
    """Open a layer as a tree of a union, `index` being its place in the stack.

    Raises InvalidArgument, Corrupt or Unsupported for a file that cannot be used, OSError for a directory.
    """
    if not is_image(path):
        return DirTree(path, index)
    from layerfs.lowers.squash import SquashLower
    from layerfs.pysquashfs import SquashfsError  # the binding costs some milliseconds

    try:
        return SquashLower(path, index)
    except SquashfsError as error:
        raise _explained(error) from None


def _explained(error: "SquashfsError") -> Exception:
    import errno

    if error.code == "SFQS_ERROR_SUPER_VERSION":
        return Unsupported(str(error), "make the image anew with mksquashfs 4 or `layerfs xar build`")
    if error.errno == errno.EOPNOTSUPP:
        return Unsupported(str(error), "make the image with a compressor that this host's libsquashfs has")
    if error.errno in (errno.EIO, errno.EINVAL, errno.E2BIG):
        return Corrupt(str(error), "make or fetch the image anew; `layerfs xar verify` says more")
    return InvalidArgument(str(error))
