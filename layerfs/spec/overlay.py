"""Kernel overlayfs in its own words: what a union's options become, and `Mount` values of a stack, printed and parsed.

A `Mount` of type overlay has `lowerdir=A:B` (top first), `upperdir=U` and `workdir=W` together or not at all, and any
other options of overlayfs and mount(8). One level of backslashes protects `\\\\`, `,` and `:` within a path
(`layerfs.sys.overlay.escape`), so the options can be joined by commas and given to mount(2), as containerd does.
"""

import os
from typing import Final

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.model import Mount, Stack
from layerfs.spec.options import generic_words
from layerfs.spec.values import split, unescape
from layerfs.sys.mounts import MountFlag
from layerfs.sys.overlay import escape
from layerfs.union.options import OverrideStat, RedirectDir, UnionOptions

OVERLAY: Final = "overlay"
USERXATTR: Final = "userxattr"
USE_FUSE: Final = "use --driver=fuse"
_REDIRECTS: Final = {
    RedirectDir.AUTO: "on",
    RedirectDir.ON: "on",
    RedirectDir.OFF: "follow",  # what is found is followed, nothing is written (overlayfs.rst, "redirect_dir")
    RedirectDir.NOFOLLOW: "nofollow",
}


def kernel_options(options: UnionOptions, *, writable: bool, trusted: bool) -> tuple[str, ...]:
    """Return what overlayfs is told of a union's options; `trusted` says that marks are trusted.* xattrs.

    Raises Unsupported naming the option that overlayfs does not have.
    """
    refused = unsupported(options, trusted=trusted)
    if refused:
        raise Unsupported(f"kernel overlayfs cannot do {refused}", USE_FUSE)
    words = [f"xino={'auto' if options.xino else 'off'}"]
    if not trusted or options.userxattr:
        words.append(USERXATTR)
    elif writable or options.metacopy:
        words.append(f"redirect_dir={_REDIRECTS[options.redirect_dir]}")
    elif options.redirect_dir is RedirectDir.NOFOLLOW:
        words.append("redirect_dir=nofollow")
    if options.metacopy:
        words.append("metacopy=on")
    if options.index is not None and writable:
        words.append(f"index={'on' if options.index else 'off'}")
    if options.volatile and writable:
        words.append("volatile")
    return tuple(words)


def unsupported(options: UnionOptions, *, trusted: bool) -> str:
    """Return the first option that only the FUSE driver can do, or nothing.

    `static_nlink`, `timeout` and `writeback` are about the FUSE driver's costs, which this one does not have.
    """
    asked = {
        "uidmapping": bool(options.uid_map),
        "gidmapping": bool(options.gid_map),
        "squash_to_uid": options.squash_uid is not None,
        "squash_to_gid": options.squash_gid is not None,
        f"xattr_permissions={int(options.override_stat)}": options.override_stat is not OverrideStat.OFF,
        "noacl": not options.acl,
        "fsync=0 without volatile": not options.fsync and not options.volatile,
        # overlayfs.rst: userxattr excludes redirect_dir=on and metacopy=on, and the latter needs the former
        "redirect_dir=on in a user namespace": options.redirect_dir is RedirectDir.ON and not trusted,
        "redirect_dir=on with userxattr": options.redirect_dir is RedirectDir.ON and options.userxattr,
        "metacopy=on in a user namespace": options.metacopy and not trusted,
        "metacopy=on with userxattr": options.metacopy and options.userxattr,
        "metacopy=on without redirect_dir=on": options.metacopy
        and options.redirect_dir in (RedirectDir.OFF, RedirectDir.NOFOLLOW),
    }
    return next((name for name, is_asked in asked.items() if is_asked), "")


def overlay_mount(stack: Stack, words: tuple[str, ...] = (), flags: MountFlag = MountFlag.NONE) -> Mount:
    """Return a stack as a mount of kernel overlayfs; without an upper it is read-only whatever `flags` say."""
    places = [b"lowerdir=" + b":".join(map(escape, stack.lowers))]
    if stack.upper is not None and stack.work is not None:
        places += [b"upperdir=" + escape(stack.upper), b"workdir=" + escape(stack.work)]
    else:
        flags |= MountFlag.RDONLY
    generic = [word for word in generic_words(flags) if word != "rw"]
    return Mount(OVERLAY, OVERLAY, (*map(os.fsdecode, places), *words, *generic))


def bind_mount(path: bytes, *, read_only: bool) -> Mount:
    """Return a directory as a mount of itself: what a snapshot of one layer is in containerd's words."""
    return Mount("bind", os.fsdecode(path), ("rbind", "ro" if read_only else "rw"))


def stack_of(mount: Mount) -> tuple[Stack, tuple[str, ...]]:
    """Return the stack of an overlay mount, and the options that name no directory, in their order.

    `mount` may come from a stranger. Raises InvalidArgument for another type, and for a stack without lowers or with
    half an upper.
    """
    if mount.type != OVERLAY:
        raise InvalidArgument(f"a mount of type {mount.type} is no stack", f"give one of type {OVERLAY}")
    lowers: list[bytes] = []
    places: dict[bytes, bytes] = {}
    rest: list[str] = []
    for option in mount.options:
        name, equals, raw = os.fsencode(option).partition(b"=")
        if equals and name == b"lowerdir":
            lowers = [unescape(part) for part in split(raw, b":", quotes=False) if part]
        elif equals and name == b"lowerdir+":
            lowers.append(unescape(raw))
        elif equals and name in (b"upperdir", b"workdir"):
            places[name] = unescape(raw)
        else:
            rest.append(option)
    return _stack(lowers, places), tuple(rest)


def _stack(lowers: list[bytes], places: dict[bytes, bytes]) -> Stack:
    upper, work = places.get(b"upperdir") or None, places.get(b"workdir") or None
    if not lowers:
        raise InvalidArgument("an overlay mount names no lowerdir", "give lowerdir=A:B, top first")
    if (upper is None) != (work is None):
        raise InvalidArgument("an overlay mount has upperdir and workdir together", "give both or neither")
    return Stack(tuple(lowers), upper, work)


def print_options(mount: Mount) -> str:
    """Return a mount's options as one string, as mount(8) takes it after -o."""
    return ",".join(mount.options)


def parse_mount_options(text: str) -> tuple[str, ...]:
    """Return the options of one string; the escapes in them stay."""
    return tuple(os.fsdecode(option) for option in split(os.fsencode(text), b",", quotes=False) if option)
