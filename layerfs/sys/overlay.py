"""Kernel overlayfs: one mount made of a stack, by whichever interface this kernel has.

How layers are handed over (`LayerSyntax`), best first; tried once a process, never read off the kernel's version:

    DESCRIPTOR  fsconfig(FSCONFIG_SET_FD, "lowerdir+")      Linux 6.13: any path, no limit on its length
    NAME        fsconfig(FSCONFIG_SET_STRING, "lowerdir+")  Linux 6.8: over 255 bytes goes as /proc/self/fd/N
    JOINED      mount(2), "lowerdir=A:B,upperdir=..."       one page for everything
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import cache

from layerfs.errors import Unsupported
from layerfs.model import Stack
from layerfs.sys import fsmount
from layerfs.sys.fsmount import FsContext
from layerfs.sys.mounts import MountFlag, bind, mount_raw, unmount

SOURCE = b"layerfs"
DATA_LIMIT = os.sysconf("SC_PAGE_SIZE") - 1  # bytes; copy_mount_options() in fs/namespace.c, the NUL not counted


class LayerSyntax(Enum):
    """How layers are handed to the kernel."""

    DESCRIPTOR = "descriptor"
    NAME = "name"
    JOINED = "joined"


@cache
def layer_syntax() -> LayerSyntax:
    """Return the best way this kernel has; PermissionError (not remembered) if this process may not mount at all."""
    try:
        with FsContext(b"overlay") as context:
            return _try_syntax(context)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return LayerSyntax.JOINED
        raise


def _try_syntax(context: FsContext) -> LayerSyntax:
    """Name a layer in a context that is thrown away."""
    for syntax in (LayerSyntax.DESCRIPTOR, LayerSyntax.NAME):
        try:
            _set_layer(context, b"lowerdir+", b"/", syntax)
            return syntax
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return LayerSyntax.JOINED


def mount_overlay(
    stack: Stack,
    target: bytes,
    options: tuple[str, ...] = (),
    flags: int = MountFlag.NONE,
    syntax: LayerSyntax | None = None,
) -> None:
    """Mount a stack with kernel overlayfs at `target`; without an upper the mount is read-only.

    `options` are overlayfs's own but the layers (`userxattr`, `redirect_dir=on`). `syntax` is for tests.
    Raises OSError, naming the layer where the kernel tells; Unsupported if the paths are too long for mount(2).
    """
    syntax = syntax or layer_syntax()
    if stack.upper is None:
        flags |= MountFlag.RDONLY
        if len(stack.lowers) == 1:
            _mount_single(stack, target, options, flags, syntax)
            return
    if syntax is LayerSyntax.JOINED:
        mount_raw(b"overlay", SOURCE, target, flags, joined(stack, options))
        return
    with detached_overlay(stack, options, flags, syntax) as mount:
        fsmount.attach(mount, target)


def _mount_single(stack: Stack, target: bytes, options: tuple[str, ...], flags: int, syntax: LayerSyntax) -> None:
    """Mount one lower read-only: overlayfs wants two lowers, so an empty one is put below it.

    A bind mount would show the layer's whiteouts and opaque marks; it is what is left where only mount(2) is there.
    The empty lower is a tmpfs at `target` for a moment (the kernel clones layers only from mounts that have a place);
    afterwards overlayfs alone holds it.
    """
    if syntax is LayerSyntax.JOINED:
        bind(stack.lowers[0], target, flags)
        return
    fsmount.mount_new(b"tmpfs", target, ("size=4k", "nr_inodes=2", "mode=0755"))
    with ExitStack() as made:
        try:
            pair = Stack(lowers=(stack.lowers[0], target))
            mount = made.enter_context(detached_overlay(pair, options, flags, syntax))
        finally:
            unmount(target, lazy=True)
        fsmount.attach(mount, target)


@contextmanager
def detached_overlay(
    stack: Stack, options: tuple[str, ...], flags: int = MountFlag.NONE, syntax: LayerSyntax | None = None
) -> Iterator[int]:
    """Make an overlay that has no place yet and yield its descriptor; unless attached it is gone afterwards."""
    with FsContext(b"overlay") as context:
        context.set_string(b"source", SOURCE)
        for key, path in _layers(stack):
            _set_layer(context, key, path, syntax or layer_syntax())
        for option in options:
            context.set_option(option)
        context.create(flags)
        mount = context.mount(flags)
    try:
        yield mount
    finally:
        os.close(mount)


def _layers(stack: Stack) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parameter and the path of each directory, lowers top first."""
    for lower in stack.lowers:
        yield b"lowerdir+", lower
    if stack.upper is not None and stack.work is not None:
        yield b"upperdir", stack.upper
        yield b"workdir", stack.work


def _set_layer(context: FsContext, key: bytes, path: bytes, syntax: LayerSyntax) -> None:
    """Hand one directory over."""
    with _opened(path) as fd:
        if syntax is LayerSyntax.DESCRIPTOR:
            context.set_descriptor(key, fd, path)
            return
        # The kernel undoes backslashes in upperdir and workdir, and not in lowerdir+ (tried).
        name = path if key == b"lowerdir+" else path.replace(b"\\", b"\\\\")
        context.set_string(key, name if len(name) <= fsmount.STRING_LIMIT else b"/proc/self/fd/%d" % fd)


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def joined(stack: Stack, options: tuple[str, ...]) -> bytes:
    """Return a stack as the options of mount(2); Unsupported if they do not fit into a page."""
    parts = [b"lowerdir=" + b":".join(map(escape, stack.lowers))]
    if stack.upper is not None and stack.work is not None:
        parts += [b"upperdir=" + escape(stack.upper), b"workdir=" + escape(stack.work)]
    data = b",".join([*parts, *map(os.fsencode, options)])
    if len(data) > DATA_LIMIT:
        count = len(stack.lowers)
        raise Unsupported(
            f"{count} lower directories need {len(data)} bytes of mount options; mount(2) takes {DATA_LIMIT}",
            "use --driver=fuse, shorter paths, or Linux 6.8 or newer, which takes layers one by one",
        )
    return data


def escape(path: bytes) -> bytes:
    """Return a path as overlayfs reads it between commas and colons (ovl_next_opt, ovl_split_lowerdirs)."""
    for special in (b"\\", b",", b":"):
        path = path.replace(special, b"\\" + special)
    return path
