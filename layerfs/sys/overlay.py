"""Kernel overlayfs: one mount made of a stack, by whichever interface this kernel has.

How layers are handed over (`LayerSyntax`), best first; tried once a process, never read off the kernel's version:

    DESCRIPTOR  fsconfig(FSCONFIG_SET_FD, "lowerdir+")      Linux 6.13: any path, no limit on its length
    NAME        fsconfig(FSCONFIG_SET_STRING, "lowerdir+")  Linux 6.8: over 255 bytes goes as /proc/self/fd/N
    JOINED      mount(2), "lowerdir=A:B,upperdir=..."       one page for everything

A lower may be a mount that is nowhere (`detached_path`): the overlay then holds the last reference to it, and it goes
with the overlay. Kernels before 6.15 want each lower in the mount namespace of the process that mounts: it
gets one that lasts for a moment.
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
from layerfs.sys.mounts import MountFlag, bind, mount_raw
from layerfs.sys.namespaces import with_own_mounts

SOURCE = b"layerfs"
DATA_LIMIT = os.sysconf("SC_PAGE_SIZE") - 1  # bytes; copy_mount_options() in fs/namespace.c, the NUL not counted
_FLOATING = b"/proc/self/fd/"
VOLATILE = "volatile"


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
            if error.errno == errno.EOPNOTSUPP:  # an overlayfs of the old interface (Linux 6.4), which takes any name
                return LayerSyntax.JOINED
            if error.errno != errno.EINVAL:
                raise
    return LayerSyntax.JOINED


@cache
def shows_nested(prefix: bytes) -> bool:
    """Tell whether overlays whose marks begin with `prefix` show PREFIXoverlay.NAME as PREFIXNAME (Linux 6.7).

    Tried once a process, with an overlay that nobody sees. False where this process may not mount.
    """
    options = ("userxattr",) if prefix.startswith(b"user.") else ()
    with ExitStack() as held:
        try:
            lower = fsmount.make(b"tmpfs", ("size=4k", "nr_inodes=2", "mode=0755"))
            held.callback(os.close, lower)
            os.setxattr(detached_path(lower), prefix + b"overlay.layerfs", b"y")
            mount = held.enter_context(detached_overlay(Stack((detached_path(lower),)), b"/", options))
            return prefix + b"layerfs" in map(os.fsencode, os.listxattr(detached_path(mount) + b"/."))
        except OSError:  # EPERM, EOPNOTSUPP, EINVAL: the answer we asked for
            return False


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
    if syntax is LayerSyntax.JOINED and not _detached(stack):
        _mount_joined(stack, target, options, flags)
        return
    with detached_overlay(stack, target, options, flags, syntax) as mount:
        fsmount.attach(mount, target)


def detached_path(mount: int) -> bytes:
    """Return the path by which a mount that is nowhere is a layer, as long as its descriptor is open."""
    return _FLOATING + b"%d" % mount


def _detached(stack: Stack) -> list[int]:
    """Return the descriptors of the lowers that are nowhere."""
    numbers = [lower.removeprefix(_FLOATING) for lower in stack.lowers if lower.startswith(_FLOATING)]
    return [int(number) for number in numbers if number.isdigit()]


def _mount_joined(stack: Stack, target: bytes, options: tuple[str, ...], flags: int) -> None:
    """Mount by mount(2). A read-only stack of one is a bind mount, so its layer's own marks show."""
    if stack.upper is None and len(stack.lowers) == 1:
        bind(stack.lowers[0], target, flags)
    else:
        mount_raw(b"overlay", SOURCE, target, flags, joined(stack, options))


@contextmanager
def detached_overlay(
    stack: Stack,
    place: bytes,
    options: tuple[str, ...],
    flags: int = MountFlag.NONE,
    syntax: LayerSyntax | None = None,
) -> Iterator[int]:
    """Make an overlay that is nowhere yet and yield its descriptor; unless attached it is gone afterwards.

    overlayfs wants two lowers where there is no upper: a stack of one gets an empty one below it. A bind mount would
    show the layer's whiteouts and opaque marks. `place` is a directory with no layer below it, which older kernels
    need for a moment; mounts that are nowhere may there be layers of one overlay only.
    """
    with ExitStack() as held:
        if stack.upper is None and len(stack.lowers) == 1:
            empty = fsmount.make(b"tmpfs", ("size=4k", "nr_inodes=2", "mode=0755"))
            held.callback(os.close, empty)
            stack = Stack((*stack.lowers, detached_path(empty)))
        mount = _make_anyhow(stack, place, options, flags, syntax or layer_syntax())
    try:
        yield mount
    finally:
        os.close(mount)


def try_overlay(stack: Stack, place: bytes, options: tuple[str, ...]) -> None:
    """Make an overlay that nobody sees, and let it go. Raises OSError if the kernel refuses it; `place` as above.

    The upper must be one of ours for this try. When an overlay that is not volatile goes, the kernel syncs all of its
    upper's filesystem (ovl_sync_fs): seconds where others have written much. Kernels before 5.10 have no volatile ones.
    """
    if stack.upper is not None and VOLATILE not in options:
        try:
            with detached_overlay(stack, place, (*options, VOLATILE)):
                return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    with detached_overlay(stack, place, options):
        pass


def _make_anyhow(stack: Stack, place: bytes, options: tuple[str, ...], flags: int, syntax: LayerSyntax) -> int:
    """Return the descriptor of a new overlay, made in another mount namespace where this kernel needs that."""
    if syntax is not LayerSyntax.JOINED:
        try:
            return _make(stack, options, flags, syntax)
        except OSError as error:
            if error.errno != errno.EINVAL or not _detached(stack):
                raise
    return with_own_mounts(lambda: _make_apart(stack, place, options, flags, syntax))


def _make_apart(stack: Stack, place: bytes, options: tuple[str, ...], flags: int, syntax: LayerSyntax) -> int:
    """Return the descriptor of a new overlay, made where nobody else looks: all that is nowhere is put at one place."""
    for mount in _detached(stack):
        fsmount.attach(mount, place)
    if syntax is not LayerSyntax.JOINED:
        return _make(stack, options, flags, syntax)
    mount_raw(b"overlay", SOURCE, place, flags, joined(stack, options))
    return fsmount.clone_tree(place)


def _make(stack: Stack, options: tuple[str, ...], flags: int, syntax: LayerSyntax) -> int:
    """Return the descriptor of a new overlay."""
    with FsContext(b"overlay") as context:
        context.set_string(b"source", SOURCE)
        for key, path in _layers(stack):
            _set_layer(context, key, path, syntax)
        for option in options:
            context.set_option(option)
        context.create(flags)
        return context.mount(flags)


def _layers(stack: Stack) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parameter and the path of each directory, lowers top first."""
    for lower in stack.lowers:
        yield b"lowerdir+", lower
    if stack.upper is not None and stack.work is not None:
        yield b"upperdir", stack.upper
        yield b"workdir", stack.work


def _set_layer(context: FsContext, key: bytes, path: bytes, syntax: LayerSyntax) -> None:
    """Hand one directory to the kernel."""
    with _opened(path, follow=key != b"workdir") as fd:  # overlayfs empties it: not what a symlink leads to meanwhile
        if syntax is LayerSyntax.DESCRIPTOR:
            context.set_descriptor(key, fd, path)
            return
        # The kernel undoes backslashes in upperdir and workdir, and not in lowerdir+ (tried).
        name = path if key == b"lowerdir+" else path.replace(b"\\", b"\\\\")
        context.set_string(key, name if len(name) <= fsmount.STRING_LIMIT else b"/proc/self/fd/%d" % fd)


@contextmanager
def _opened(path: bytes, *, follow: bool) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
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
