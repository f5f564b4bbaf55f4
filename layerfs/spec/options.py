"""The -o strings of a mount, parsed once and for all into frozen values.

What is understood: the options of fuse-overlayfs, those of kernel overlayfs that a union can honour, those that every
filesystem has (mount(8)), those of FUSE, and our own `driver=`. mount(8)'s notes to itself are let through.
How a value is read is in values.py.

One level of escapes, kernel overlayfs's (overlayfs.rst): `\\,` within an option, `\\:` within a lowerdir, `\\\\`.
"""

import os
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final

from layerfs.errors import WrongUsage, empty_path
from layerfs.model import Driver, Stack
from layerfs.spec.attach import AttachOptions
from layerfs.spec.values import (
    MAX_ID,
    MAX_OFFSET,
    bad_value,
    number_between,
    one_of,
    read_absent,
    read_id_ranges,
    read_path,
    read_present,
    read_seconds,
    split,
    unescape,
)
from layerfs.sys.mounts import MountFlag, parse_generic
from layerfs.union.options import OverrideStat, RedirectDir, UnionOptions
from layerfs.value import replace, value


@value
class MountOptions:
    """Everything that -o can say. Paths are as they were given; `ignored` are the options without effect here."""

    lowers: tuple[bytes, ...] = ()
    upper: bytes | None = None
    work: bytes | None = None
    union: UnionOptions = UnionOptions()
    attach: AttachOptions = AttachOptions()
    driver: Driver | None = None
    debug: bool = False
    ignored: tuple[bytes, ...] = ()
    offset: int = 0


@value
class MountRequest:
    """One mount, wholly decided but for the driver that AUTO will become; every path is absolute.

    `asked` says who asked for the driver, for `status`; empty where nobody did.
    """

    stack: Stack
    mountpoint: bytes
    union: UnionOptions
    attach: AttachOptions
    driver: Driver
    asked: str = ""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written: there is no upper, or `ro` was asked for."""
        return bool(self.attach.flags & MountFlag.RDONLY)


class _Draft:
    """What was read so far; the last word on anything wins, as in mount(8)."""

    def __init__(self) -> None:
        self.lowers: list[bytes] = []
        self.paths: dict[str, bytes] = {}
        self.union: dict[str, Any] = {}
        self.attach: dict[str, Any] = {}
        self.squash_root = False
        self.driver: Driver | None = None
        self.debug = False
        self.offset = 0
        self.generic: list[str] = []
        self.ignored: list[bytes] = []


def parse(strings: Iterable[bytes]) -> MountOptions:
    """Parse -o strings, in order; later options win. Raises WrongUsage naming what it does not know."""
    draft = _Draft()
    for string in strings:
        for option in split(string, b","):
            if option:  # podman sends empty ones
                _read(draft, option)
    flags, unknown = parse_generic(tuple(draft.generic))
    if unknown:
        raise _unknown(unknown[0])
    root = {"squash_uid": 0, "squash_gid": 0} if draft.squash_root else {}
    return MountOptions(
        lowers=tuple(draft.lowers),
        upper=draft.paths.get("upper"),
        work=draft.paths.get("work"),
        union=UnionOptions(**(root | draft.union)),
        attach=AttachOptions(flags=flags, **draft.attach),
        driver=draft.driver,
        debug=draft.debug,
        ignored=tuple(draft.ignored),
        offset=draft.offset,
    )


def request(options: MountOptions, mountpoint: bytes, cwd: bytes) -> MountRequest:
    """Return the mount that the options ask for; relative paths are taken from `cwd` [absolute]."""
    if not options.lowers:
        raise WrongUsage("no layers to mount", "give LAYER... MOUNTPOINT, or -o lowerdir=A:B MOUNTPOINT")
    if (options.upper is None) != (options.work is None):
        given, missing = ("workdir", "upperdir") if options.upper is None else ("upperdir", "workdir")
        raise WrongUsage(f"{given} without {missing}", "a writable mount needs both, on one filesystem")
    stack = Stack(
        lowers=tuple(absolute(lower, cwd) for lower in options.lowers),
        upper=options.upper and absolute(options.upper, cwd),
        work=options.work and absolute(options.work, cwd),
        offset=options.offset,
    )
    attach = options.attach
    if stack.upper is not None and attach.flags & MountFlag.RDONLY:
        # Nothing is written, so the upper may be another mount's: containerd's differ looks at a running container so.
        stack = replace(stack, lowers=(stack.upper, *stack.lowers), upper=None, work=None)
    if stack.upper is None:  # mount(2) is told too, so that the kernel itself answers EROFS
        attach = replace(attach, flags=attach.flags | MountFlag.RDONLY)
    driver, asked = _driver(options)
    union = options.union
    if attach.unchecked:  # with ACLs the kernel checks always
        union = replace(union, acl=False)
    return MountRequest(stack, absolute(mountpoint, cwd), union, attach, driver, asked)


def _driver(options: MountOptions) -> tuple[Driver, str]:
    """Return the driver and who asked for it."""
    if options.attach.unchecked and options.driver in (None, Driver.AUTO):
        return Driver.FUSE, "asked for by -o unchecked"
    if options.attach.unchecked and options.driver is Driver.KERNEL:
        raise WrongUsage("-o unchecked with the driver kernel", "the kernel's overlayfs always checks: use driver=fuse")
    asked = f"asked for by -o driver={options.driver.value}" if options.driver else ""
    return options.driver or Driver.AUTO, asked


def absolute(path: bytes, cwd: bytes) -> bytes:
    """Return a path from the root. `..` stays, because taking it out is wrong behind a symlink.

    Raises WrongUsage for an empty one, which a shell makes of a variable that is not set.
    """
    if not path:
        raise empty_path()
    return os.path.join(cwd, path).rstrip(b"/") or b"/"


def _read(draft: _Draft, option: bytes) -> None:
    """Put one option into the draft."""
    name_bytes, equals, raw = option.partition(b"=")
    name = os.fsdecode(name_bytes)
    value = unescape(raw) if equals else None
    if name == "lowerdir":
        draft.lowers = [unescape(part) for part in split(raw, b":") if part]
    elif name == "lowerdir+":
        draft.lowers.append(read_path(name, value))
    elif name in _PATHS:
        draft.paths[_PATHS[name]] = read_path(name, value)
    elif name in _UNION:
        key, convert = _UNION[name]
        draft.union[key] = convert(name, value)
    elif name in _ATTACH:
        key, convert = _ATTACH[name]
        draft.attach[key] = convert(name, value)
    else:
        _read_other(draft, name, value, option)


def _read_other(draft: _Draft, name: str, value: bytes | None, option: bytes) -> None:
    """Put an option into the draft that is neither the union's nor the mount's."""
    if name in _REFUSED:
        raise WrongUsage(f'option "{name}" is not supported', _REFUSED[name])
    if name == "driver":
        draft.driver = one_of({driver.value: driver for driver in Driver})(name, value)
    elif name == "squash_to_root":
        draft.squash_root = read_present(name, value)
    elif name == "offset":
        draft.offset = number_between(0, MAX_OFFSET)(name, value)
    elif name == "debug":
        draft.debug = read_present(name, value)
    elif name in _ONLY_OFF:
        one_of(_ONLY_OFF[name])(name, value)
        draft.ignored.append(option)
    elif name in _IGNORED or name in _WITHOUT_EFFECT or name.startswith(_IGNORED_PREFIXES):
        draft.ignored.append(option)
    elif name == "sync" and value is not None:  # of fuse-overlayfs; mount(8)'s takes no value
        _BINARY(name, value)
        draft.ignored.append(option)
    else:
        draft.generic.append(os.fsdecode(option))


def _unknown(option: str) -> WrongUsage:
    """Return the error for an option that nobody knows, with what it may have been meant to be."""
    from difflib import get_close_matches  # 3 ms, for those who mistype

    name, equals, value = option.partition("=")
    if equals and name in _GENERIC:
        return bad_value(name, os.fsencode(value), "no value")
    near = get_close_matches(name, known_options(), n=1)
    hint = f'did you mean "{near[0]}"?' if near else "layerfs mount -o help lists them"
    return WrongUsage(f'unknown mount option "{name}"', hint)


def without_effect(ignored: tuple[bytes, ...]) -> list[str]:
    """Return those of the ignored options whose giver may have expected something."""
    names = [os.fsdecode(option.partition(b"=")[0]) for option in ignored]
    return [name for name in names if name in _WITHOUT_EFFECT or name == "sync"]


def known_options() -> list[str]:
    """Return the names of all options that have an effect, for hints and for completion."""
    ours = ("lowerdir", "lowerdir+", "driver", "squash_to_root", "offset", "debug")
    return sorted({*ours, *_PATHS, *_UNION, *_ATTACH, *_GENERIC})


_Table = dict[str, tuple[str, Callable[[str, bytes | None], Any]]]
_BINARY: Final = one_of({"1": True, "0": False})
_ON_OFF: Final = {"on": True, "off": False}
_PATHS: Final = {"upperdir": "upper", "workdir": "work"}
_UNION: Final[_Table] = {
    "uidmapping": ("uid_map", read_id_ranges),
    "gidmapping": ("gid_map", read_id_ranges),
    "squash_to_uid": ("squash_uid", number_between(0, MAX_ID)),
    "squash_to_gid": ("squash_gid", number_between(0, MAX_ID)),
    "xattr_permissions": ("override_stat", one_of({str(int(value)): value for value in OverrideStat})),
    "static_nlink": ("static_nlink", read_present),
    "noacl": ("acl", read_absent),
    "acl": ("acl", read_present),
    "volatile": ("volatile", read_present),
    "fsync": ("fsync", _BINARY),
    "xino": ("xino", one_of({**_ON_OFF, "auto": True, "": True})),
    "redirect_dir": (
        "redirect_dir",
        one_of(
            {"on": RedirectDir.ON, "off": RedirectDir.OFF, "follow": RedirectDir.OFF, "nofollow": RedirectDir.NOFOLLOW}
        ),
    ),
    "metacopy": ("metacopy", one_of(_ON_OFF)),
    "index": ("index", one_of(_ON_OFF)),
    "userxattr": ("userxattr", read_present),
    "timeout": ("timeout", read_seconds),
    "writeback": ("writeback", _BINARY),
}
_ATTACH: Final[_Table] = {
    "fsname": ("source", read_path),
    "subtype": ("subtype", read_path),
    "allow_other": ("allow_other", one_of({"": True, "1": True, "0": False})),
    "max_read": ("max_read", number_between(4096, 2**31 - 1)),
    "unchecked": ("unchecked", read_present),
    "lane": ("lane", read_present),
    "nolane": ("lane", read_absent),
}
_REFUSED: Final = {
    "plugins": "layerfs has none; mount the layers first and give their directories",
    "allow_root": "use allow_other; permissions are checked all the same",
    "remount": "unmount, then mount again",
    "bind": "use mount --bind on the mountpoint",
    "rbind": "use mount --rbind on the mountpoint",
    "datadir+": "give data as ordinary layers, with lowerdir",
}
# What an overlay may be told to leave out, and a union never has. The kernel's `on` would change what is on disk.
_OFF: Final[dict[str, None]] = {"off": None}
_ONLY_OFF: Final[dict[str, dict[str, None]]] = {
    "nfs_export": _OFF,
    "verity": _OFF,
    "noxattrs": {"": None, "0": None, "1": None},
    "threaded": {"": None, "0": None, "1": None},
    "fast_ino": {"0": None, "1": None},
}
# mount(8): options for mount itself, for fstab, and security contexts; FUSE libraries: ways to move bytes.
# fmt: off
_IGNORED: Final = frozenset({
    "_netdev", "nofail", "fail", "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup",
    "silent", "loud", "mand", "nomand", "iversion", "noiversion", "comment", "context", "fscontext", "defcontext",
    "rootcontext", "uuid", "default_permissions", "clone_fd", "splice_read", "splice_write",
    "splice_move", "no_splice_read", "no_splice_write", "no_splice_move", "kernel_cache", "big_writes", "nonempty",
    "async_read", "max_write", "posixacl",
})
# What fuse-overlayfs and the FUSE libraries take and a mount of ours has no use for; whoever says it is told so.
_WITHOUT_EFFECT: Final = frozenset({
    "ino32_t", "use_ino", "readdir_ino", "auto_unmount", "max_threads", "max_idle_threads", "auto_cache",
    "noauto_cache",
    "ac_attr_timeout", "attr_timeout", "entry_timeout", "negative_timeout", "noforget", "remember", "direct_io",
    "hard_remove", "intr", "intr_signal", "sync_read", "max_readahead", "max_background", "congestion_threshold",
    "atomic_o_trunc", "no_remote_lock", "no_remote_posix_lock", "no_remote_flock", "nolazy_umount", "large_read",
    "noauto_unmount", "no_auto_unmount", "blksize",
})
_IGNORED_PREFIXES: Final = ("x-", "X-", "helper=", "uhelper=")
_GENERIC: Final = (
    "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "sync", "async", "dirsync", "noatime", "atime",
    "nodiratime", "diratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
    "nosymfollow", "symfollow", "defaults",
)
# fmt: on


@cache
def generic_words(flags: MountFlag) -> tuple[str, ...]:
    """Return the flags as mount options, beginning with ro or rw."""
    number = int(flags)
    words = tuple(word for word, bits in _bits_of_words() if bits & number)
    return words if flags & MountFlag.RDONLY else ("rw", *words)


@cache
def _bits_of_words() -> tuple[tuple[str, int], ...]:
    """Return what each word sets, as plain numbers: a flag's own operators cost a microsecond each."""
    return tuple((word, int(parse_generic((word,))[0])) for word in _GENERIC)
