"""One XAR or bare squashfs image, opened: its name, its header and the image in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from layerfs.pysquashfs import Image, SquashfsError
from layerfs.xar.header import Header, offset_of, read_header


@dataclass(frozen=True, slots=True)
class Package:
    """What a file holds; `header` is None for a bare image, `size` counts the whole file [bytes].

    `name` is the last part of the path: this is what DEPENDENCIES of other packages say.
    """

    path: bytes
    name: bytes
    header: Header | None
    image: Image
    size: int

    @property
    def offset(self) -> int:
        """Where the image begins [bytes]."""
        return self.header.offset if self.header else 0


@contextmanager
def opened(path: bytes) -> Iterator[Package]:
    """Open a package; raises NotImage, Corrupt, and OSError (SquashfsError is one) for what is wrong in the image."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not keep us
    try:
        header = read_header(fd, path) if offset_of(fd, path) else None
        size = os.lseek(fd, 0, os.SEEK_END)  # that of a block device, too
        with Image(fd, offset=header.offset if header else 0, name=path) as image:
            yield Package(path, os.path.basename(path), header, image, size)
    finally:
        os.close(fd)


def reason(error: OSError) -> str:
    """Return what an error says, without the file's name: which part of the image is wrong, and how."""
    said = error.strerror or str(error)
    return f"{error.what}: {said}" if isinstance(error, SquashfsError) and error.what else said
