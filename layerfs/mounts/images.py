"""Images among the layers of a kernel overlay: loop mounts where this process may make them, else one FUSE mount.

    permitted    dir | image | dir | image     each image a mount that is nowhere, all layers the kernel's own
    refused      dir | [image + dir + image]   from the topmost image down to the bottom one tree, merged by a server
                                               (`layerfs.mounts.underlay`): whiteouts in images must reach below

Either way nothing has a mountpoint, and what is made goes with the overlay.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Final

from layerfs.errors import Corrupt, InvalidArgument, LayerfsError, NotFound, Unsupported
from layerfs.lowers.kinds import is_image
from layerfs.model import Stack
from layerfs.mounts.process import ServerHooks
from layerfs.sys.loop import CONTROL, SECTOR, mount_image
from layerfs.sys.overlay import detached_path
from layerfs.xar.image_file import image_offset

THREADS: Final = 8  # measured: 128 images take 205 ms by one, 60 ms by 4, 47 ms by 8, 65 ms by 32
_BYTES_USED: Final = struct.Struct("<40xQ")  # of a squashfs superblock
_USE_FUSE: Final = "use --driver=fuse"


class LoopsRefused(Unsupported):
    """This process may not mount images, or this kernel cannot mount any."""


@dataclass(frozen=True, slots=True)
class KernelStack:
    """What the kernel can stack: images as mounts. `server` is the pid of their server, 0 without one."""

    stack: Stack
    server: int = 0
    how: str = ""


@contextmanager
def kernel_stack(stack: Stack, mountpoint: bytes, hooks: ServerHooks | None) -> Iterator[KernelStack]:
    """Yield a stack whose images are mounts, for the overlay that is to be mounted at `mountpoint` meanwhile.

    Without `hooks` there is no server: LoopsRefused then where there would be one. Raises other LayerfsErrors and
    OSError, too, with nothing left; nothing is left either if no overlay was made.
    """
    images = tuple(filter(is_image, stack.lowers))
    if not images:
        yield KernelStack(stack)
        return
    with ExitStack() as held:
        try:
            mounts = mount_images(images, stack.offset)
        except LoopsRefused as refusal:
            if hooks is None:
                raise
            found = _served(stack, stack.lowers.index(images[0]), refusal, mountpoint, hooks, held)
        else:
            for mount in mounts.values():
                held.callback(os.close, mount)
            lowers = tuple(detached_path(mounts[lower]) if lower in mounts else lower for lower in stack.lowers)
            found = KernelStack(Stack(lowers, stack.upper, stack.work), 0, "images by loop devices")
        yield found


def _served(
    stack: Stack, first: int, refusal: LoopsRefused, mountpoint: bytes, hooks: ServerHooks, held: ExitStack
) -> KernelStack:
    """Return a stack whose layers from the `first` on are one FUSE mount."""
    from layerfs.mounts.underlay import underlay

    below = held.enter_context(underlay(Stack(stack.lowers[first:], offset=stack.offset), mountpoint, hooks))
    lowers = (*stack.lowers[:first], detached_path(below.mount))
    return KernelStack(Stack(lowers, stack.upper, stack.work), below.server, f"images by FUSE: {refusal.message}")


def mount_images(paths: tuple[bytes, ...], asked: int = 0) -> dict[bytes, int]:
    """Mount images through loop devices, several at once; return the descriptors of the mounts, which are nowhere.

    Raises LoopsRefused, and other LayerfsErrors that name the image; none is mounted then.
    """
    mounts: dict[bytes, int] = {}
    errors: list[LayerfsError] = []
    # All headers are read before the first device is taken; a list's iterator serves several threads.
    waiting = iter([(path, image_offset(path, asked)) for path in paths])

    def work() -> None:
        for path, offset in waiting:
            try:
                mounts[path] = mount_image(path, offset)
            except OSError as error:
                errors.append(_explain(error, path, offset))
            if errors:
                return

    threads = [Thread(target=work) for _ in range(min(THREADS, len(paths)) - 1)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        for thread in threads:
            thread.join()
        if len(mounts) < len(paths):
            for mount in mounts.values():
                os.close(mount)
    if errors:
        raise errors[0]
    return mounts


def _explain(error: OSError, path: bytes, offset: int) -> LayerfsError:
    """Return what an error of mounting an image means to a person."""
    where, said = os.fsdecode(path), error.strerror or str(error)
    if error.filename == path:
        kind = NotFound if error.errno == errno.ENOENT else InvalidArgument
        return kind(f"image {where} cannot be opened: {said}", "check the path")
    if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        return LoopsRefused("this user may not mount images through loop devices", f"be root, or {_USE_FUSE}")
    if error.errno == errno.ENOENT and error.filename == CONTROL:
        return LoopsRefused("there are no loop devices", f"as root: modprobe loop; or {_USE_FUSE}")
    if error.errno == errno.ENODEV:
        return LoopsRefused("this kernel has no squashfs", f"as root: modprobe squashfs; or {_USE_FUSE}")
    return _wrong_length(path, offset) or Unsupported(
        f"the kernel does not mount the image {where}: {said}",
        f"`layerfs xar verify` or `dmesg` may say more; or {_USE_FUSE}",
    )


def _wrong_length(path: bytes, offset: int) -> LayerfsError | None:
    """Return what is wrong with the length of an image that the kernel refused."""
    with open(path, "rb", buffering=0) as image:
        image.seek(offset)
        head = image.read(_BYTES_USED.size)
        there = os.fstat(image.fileno()).st_size - offset
    if len(head) < _BYTES_USED.size:
        return Corrupt(f"image {os.fsdecode(path)} is cut short after {there} bytes")
    (used,) = _BYTES_USED.unpack(head)
    if there < used:
        return Corrupt(f"image {os.fsdecode(path)} is cut short: {there} bytes of {used} are there")
    if there - there % SECTOR < used:
        text = f"image {os.fsdecode(path)} ends within a sector of {SECTOR} bytes, which loop devices leave out"
        return Unsupported(text, f"{_USE_FUSE}, or make the image with padding")
    return None
