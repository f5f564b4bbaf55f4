"""What is mounted: /proc/PID/mountinfo. Nothing here needs ctypes, which takes milliseconds to import."""

import errno
import re
from functools import cache
from typing import Final

from layerfs.sys.files import content
from layerfs.value import value

# What a FUSE mount whose server is gone answers to statvfs(2), which is never answered from a cache: to those who come
# after the last copy of the device was closed, and to those who were waiting then.
DEAD: Final = (errno.ENOTCONN, errno.ECONNABORTED)


@value
class MountInfo:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), unescaped.

    `fields` are the optional ones, such as b"shared:1"; `device` is (major, minor).
    """

    id: int
    parent: int
    device: tuple[int, int]
    root: bytes
    target: bytes
    options: tuple[bytes, ...]
    fields: tuple[bytes, ...]
    type: bytes
    source: bytes
    super_options: tuple[bytes, ...]


def mountinfo(pid: int | None = None) -> list[MountInfo]:
    """Return what is mounted in the mount namespace of a process, in the kernel's order (later hides earlier)."""
    return [parse_mountinfo(line) for line in mount_lines(pid)]


def mount_lines(pid: int | None = None) -> list[bytes]:
    """Return the lines of mountinfo as they are: to take one apart costs as much as some system calls."""
    return [line for line in content(f"/proc/{pid or 'self'}/mountinfo").split(b"\n") if line]


def lines_of(kinds: tuple[bytes, ...]) -> list[bytes]:
    """Return the lines of the mounts in our mount namespace whose types begin with one of these words."""
    found: list[bytes] = _search(kinds).findall(content("/proc/self/mountinfo"))
    return [line for line in found if type_of(line).startswith(kinds)]


@cache
def _search(kinds: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return what finds such lines, and perhaps others: there may be many mounts, and seldom one of these."""
    return re.compile(rb"^.* - (?:%s).*$" % b"|".join(kinds), re.MULTILINE)


def mount_ids() -> set[int]:
    """Return the ids of what is mounted in our mount namespace."""
    return {int(line.partition(b" ")[0]) for line in mount_lines()}


def target_of(line: bytes) -> bytes:
    """Return where the mount of one line of mountinfo is."""
    return _unescape(line.split(b" ", 5)[4])


def type_of(line: bytes) -> bytes:
    """Return the type of the mount of one line of mountinfo."""
    return _unescape(line.partition(b" - ")[2].partition(b" ")[0])


def parse_mountinfo(line: bytes) -> MountInfo:
    """Return one line of mountinfo as a value; ValueError if it is none."""
    # The optional fields end at the first lone "-", which no escaped field before it can be.
    head, _, tail = line.partition(b" - ")
    number, parent, device, root, target, options, *fields = head.split(b" ")
    kind, source, super_options = tail.split(b" ", 2)
    major, minor = device.split(b":")
    return MountInfo(
        id=int(number),
        parent=int(parent),
        device=(int(major), int(minor)),
        root=_unescape(root),
        target=_unescape(target),
        options=tuple(options.split(b",")),
        fields=tuple(fields),
        type=_unescape(kind),
        source=_unescape(source),
        super_options=tuple(_unescape(option) for option in super_options.split(b",")),
    )


def _unescape(field: bytes) -> bytes:
    """Undo mangle(): space, tab, newline, backslash and # stand as three octal digits."""
    if b"\\" not in field:
        return field
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
