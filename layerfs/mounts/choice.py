"""Which driver serves a stack, and why: found by letting the kernel try, never by its version or by who we are."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from layerfs.errors import LayerfsError
from layerfs.lowers.kinds import is_image
from layerfs.model import Driver, Stack
from layerfs.mounts.kernel import explain, refuse_markless, words_for
from layerfs.sys import dirs
from layerfs.sys.overlay import layer_syntax, try_overlay
from layerfs.union.options import UnionOptions

_BASE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def choose(driver: Driver, stack: Stack, options: UnionOptions) -> tuple[Driver, str]:
    """Return the driver for a stack (never AUTO) and one sentence saying why; `status` shows it.

    AUTO takes the kernel if it can do all the options and accepts these very layers in a mount that nobody sees,
    with an upper of its own in the work directory; else FUSE. Raises nothing that the mount itself would not raise.
    """
    if driver is not Driver.AUTO:
        return driver, f"driver={driver.value} was asked for"
    try:
        words = words_for(stack, options)
        if any(map(is_image, stack.lowers)):
            return _for_images(stack)
        try_kernel(stack, words)
    except LayerfsError as error:
        return Driver.FUSE, error.message
    return Driver.KERNEL, "kernel overlayfs accepts these layers here"


def _for_images(stack: Stack) -> tuple[Driver, str]:
    """Return the driver to try first for a stack with images, which is mounted without a trial; FUSE if that fails."""
    try:
        layer_syntax()
    except OSError as error:
        raise explain(error, stack) from error
    return Driver.KERNEL, "kernel overlayfs is permitted here"


def try_kernel(stack: Stack, words: tuple[str, ...]) -> None:
    """Make the overlay of a stack without giving it a place; LayerfsError if the kernel refuses.

    A try on the real upper would make a volatile one look crashed, so it has another one on the same filesystem: in
    the work directory, which is ours.
    """
    try:
        layer_syntax()  # refuses most who may not mount, before anything is made
        with _scratch(stack.work) as scratch:
            if stack.upper is not None:
                stack = Stack(stack.lowers, scratch + b"/upper", scratch + b"/work")
                refuse_markless(scratch, words)
            try_overlay(stack, scratch + b"/place", words)
    except OSError as error:
        raise explain(error, stack) from error


@contextmanager
def _scratch(work: bytes | None) -> Iterator[bytes]:
    """Yield a new directory with `upper`, `work` and `place` in it, within a work directory, and clear it away.

    It is reached by a descriptor, because the owner of the work directory may exchange it under its name.
    """
    base = os.open(work or os.environb.get(b"TMPDIR", b"/tmp"), _BASE)  # tempfile would cost 10 ms to import
    name = b"layerfs-try-" + os.urandom(8).hex().encode()
    try:
        os.mkdir(name, 0o700, dir_fd=base)
        try:
            with _opened_ours(base, name) as fd:
                for part in (b"upper", b"work", b"place"):
                    os.mkdir(part, 0o700, dir_fd=fd)
                yield b"/proc/self/fd/%d" % fd
        finally:
            dirs.remove(base, name)
    finally:
        os.close(base)


@contextmanager
def _opened_ours(base: int, name: bytes) -> Iterator[int]:
    """Open the directory that we have just made, not one that somebody put in its place."""
    fd = os.open(name, _BASE | os.O_NOFOLLOW, dir_fd=base)
    try:
        st = os.fstat(fd)
        if st.st_uid != os.geteuid() or stat.S_IMODE(st.st_mode) != 0o700:
            raise PermissionError(errno.EPERM, "somebody exchanged it", name)
        yield fd
    finally:
        os.close(fd)
