"""Mount options printed: for every value of `MountOptions`, a string from which `parse` makes the same value."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from layerfs.spec.attach import AttachOptions
from layerfs.spec.options import MountOptions, MountRequest, generic_words
from layerfs.union.options import IdRange, RedirectDir, UnionOptions
from layerfs.value import fields_of

_PLAIN: Final = UnionOptions()
_UNATTACHED: Final = AttachOptions()
_REDIRECTS: Final = {RedirectDir.ON: "on", RedirectDir.OFF: "off", RedirectDir.NOFOLLOW: "nofollow"}


def print_options(options: MountOptions) -> bytes:
    """Return what -o would say; nothing for a value that is the default."""
    return b",".join(_all(options))


def options_of(request: MountRequest) -> MountOptions:
    """Return a decided mount as options; its mountpoint is not among them."""
    stack = request.stack
    return MountOptions(
        lowers=stack.lowers,
        upper=stack.upper,
        work=stack.work,
        union=request.union,
        attach=request.attach,
        driver=request.driver,
        offset=stack.offset,
    )


def escape(value: bytes, special: bytes) -> bytes:
    """Put a backslash before each backslash, quote and `special` byte, which is what `unescape` takes out.

    A quote is none of `split`'s own then, wherever it stands.
    """
    for byte in (b"\\", b'"', *(special[index : index + 1] for index in range(len(special)))):
        value = value.replace(byte, b"\\" + byte)
    return value


def _all(options: MountOptions) -> Iterator[bytes]:
    if options.lowers:
        yield b"lowerdir=" + b":".join(escape(lower, b",:") for lower in options.lowers)
    for name, path in ((b"upperdir", options.upper), (b"workdir", options.work)):
        if path is not None:
            yield name + b"=" + escape(path, b",")
    for key in fields_of(options.union):
        content = getattr(options.union, key)
        if content != getattr(_PLAIN, key):
            yield _UNION[key](content)
    yield from _attach(options.attach)
    if options.driver is not None:
        yield b"driver=" + options.driver.value.encode()
    if options.offset:
        yield b"offset=%d" % options.offset
    if options.debug:
        yield b"debug"
    yield from options.ignored  # as they were given, with their escapes


def _attach(attach: AttachOptions) -> Iterator[bytes]:
    yield from (word.encode() for word in generic_words(attach.flags) if word != "rw")
    for key in fields_of(attach):
        content = getattr(attach, key)
        if key != "flags" and content != getattr(_UNATTACHED, key):
            yield _ATTACH[key](content)


def _ids(ranges: tuple[IdRange, ...]) -> bytes:
    return b":".join(b"%d:%d:%d" % (run.outside, run.inside, run.count) for run in ranges)


def _decimal(seconds: float) -> bytes:
    """Return a time as `parse` reads it: all its digits, and no exponent."""
    from decimal import Decimal

    return f"{Decimal(seconds):f}".encode()


_Printer = Callable[[Any], bytes]
_UNION: Final[dict[str, _Printer]] = {
    "uid_map": lambda ranges: b"uidmapping=" + _ids(ranges),
    "gid_map": lambda ranges: b"gidmapping=" + _ids(ranges),
    "squash_uid": lambda number: b"squash_to_uid=%d" % number,
    "squash_gid": lambda number: b"squash_to_gid=%d" % number,
    "override_stat": lambda kind: b"xattr_permissions=%d" % kind,
    "static_nlink": lambda _: b"static_nlink",
    "acl": lambda _: b"noacl",
    "volatile": lambda _: b"volatile",
    "fsync": lambda _: b"fsync=0",
    "xino": lambda _: b"xino=off",
    "redirect_dir": lambda word: b"redirect_dir=" + _REDIRECTS[word].encode(),
    "metacopy": lambda _: b"metacopy=on",
    "index": lambda asked: b"index=on" if asked else b"index=off",
    "userxattr": lambda _: b"userxattr",
    "timeout": lambda seconds: b"timeout=" + _decimal(seconds),
    "writeback": lambda _: b"writeback=0",
}
_ATTACH: Final[dict[str, _Printer]] = {
    "source": lambda path: b"fsname=" + escape(path, b","),
    "subtype": lambda path: b"subtype=" + escape(path, b","),
    "allow_other": lambda allowed: b"allow_other" if allowed else b"allow_other=0",
    "max_read": lambda size: b"max_read=%d" % size,
    "unchecked": lambda unchecked: b"unchecked",
    "lane": lambda wanted: b"lane" if wanted else b"nolane",
}
