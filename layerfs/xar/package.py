"""One XAR or bare squashfs image, opened: its name, its header and the image in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from layerfs.pysquashfs import SquashfsError, SquashfsImage
from layerfs.xar.header import Header, read_header
from layerfs.xar.image_file import is_xar, offset_of, open_image


@dataclass(frozen=True, slots=True)
class Package:
    """What a file holds; `header` is None for a bare image, `size` counts the whole file [bytes].

    `offset` [bytes] is where the image begins.

    `name` is the last part of the path: this is what DEPENDENCIES of other packages say.
    """

    path: bytes
    name: bytes
    header: Header | None
    image: SquashfsImage
    size: int
    offset: int


@contextmanager
def opened(path: bytes, asked: int = 0) -> Iterator[Package]:
    """Open a package; `asked` [bytes] is where the image begins in a file that is neither a XAR nor a bare image.

    Raises NotImage, Corrupt, and OSError (SquashfsError is one) for what is wrong in the image.
    """
    fd = open_image(path)
    try:
        offset = offset_of(fd, path, asked)
        header = read_header(fd, path) if is_xar(fd) else None
        size = os.lseek(fd, 0, os.SEEK_END)  # that of a block device, too
        with SquashfsImage(fd, offset=offset, name=path) as image:
            yield Package(path, os.path.basename(path), header, image, size, offset)
    finally:
        os.close(fd)


def reason(error: OSError) -> str:
    """Return what an error says, without the file's name: which part of the image is wrong, and how."""
    said = error.strerror or str(error)
    return f"{error.what}: {said}" if isinstance(error, SquashfsError) and error.what else said
