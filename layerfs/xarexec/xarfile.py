"""A XAR that is to be mounted for all callers: what its header says, its files as they are now, and where its mount is.

The mountpoint's name holds the header's UUID, for people to read, and what tells one content from another: device,
inode, size and both times [ns] of each file. A changed or exchanged file has another time of change, which nobody can
set; a digest of the contents would have to read them whole before each start. Two XARs with one UUID have two mounts.

Every start of a program in a XAR pays for this module, so it imports next to nothing.
"""

import errno
import os
import stat
from binascii import crc32

from layerfs.errors import InvalidArgument
from layerfs.sys.files import NotRegular, open_regular
from layerfs.xarexec.home import find_home
from layerfs.xarexec.memo import Members, Stamp, members_of, spell, stamp_of

STOP = b"\n#xar_stop\n"
_HEADER = 8192  # bytes; the longest there is
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_HEX = frozenset(b"0123456789abcdefABCDEF")
_FIRST_PIDS = 0xEFFFFFFC  # linux/proc_ns.h: PROC_PID_INIT_INO, the pid namespace that ends with the machine
_MANAGED = (b"", b"name=systemd")  # of /proc/self/cgroup: the tree of cgroups that systemd starts and stops units by


class XarFile:
    """A XAR as it is now: what its header says, and the files to mount."""

    __slots__ = ("members", "values")

    def __init__(self, values: dict[bytes, bytes], members: Members) -> None:
        self.values = values
        self.members = members

    def is_same(self, other: "XarFile") -> bool:
        """Tell whether the same files with the same contents are to be mounted."""
        return self.members.lowers == other.members.lowers and self.members.stamps == other.members.stamps


def examine(file: bytes, *, anew: bool = False) -> XarFile:
    """Return a XAR and its dependencies as they are now; `anew` looks for these again, whatever is remembered.

    Raises Corrupt, OSError, and what resolving raises.
    """
    try:
        fd = open_regular(file)
    except NotRegular:
        raise InvalidArgument(f"{os.fsdecode(file)} is not a file", "give a XAR") from None
    try:
        values = _glance(fd, file)
        stamp = stamp_of(os.fstat(fd))
    finally:
        os.close(fd)
    path = os.path.abspath(file)
    if not values.get(b"DEPENDENCIES", b"").strip():
        return XarFile(values, _alone(path, stamp))
    return XarFile(values, members_of(path, stamp, values.get(b"MOUNT_ROOT"), anew=anew))


def _alone(path: bytes, stamp: Stamp) -> Members:
    """Return the members of a XAR that depends on nothing: its stamp need not be digested, which saves 4 ms."""
    return Members((path,), (stamp,), spell(stamp))


def _glance(fd: int, file: bytes) -> dict[bytes, bytes]:
    """Return what a XAR's header says without checking it; it is read strictly before it is mounted."""
    text = os.pread(fd, _HEADER, 0).partition(STOP)[0]
    pairs = (line.split(b'="', 1) for line in text.split(b"\n") if b'="' in line)
    values = {key: value.removesuffix(b'"') for key, value in pairs}
    uuid = values.get(b"UUID", b"")
    if not uuid or not _HEX.issuperset(uuid):
        read_strictly(fd, file)
    return values


def read_strictly(fd: int, file: bytes) -> None:
    """Raise what is wrong with a XAR's header, if anything is: InvalidArgument, Corrupt."""
    from layerfs.errors import InvalidArgument
    from layerfs.xar.header import read_header
    from layerfs.xar.image_file import is_xar

    if not is_xar(fd):
        raise InvalidArgument(f"{os.fsdecode(file)} is not a XAR", "layerfs mount takes plain squashfs images")
    read_header(fd, file)


def mountpoint_of(xar: XarFile) -> bytes:
    """Return where a xar is mounted, or would be. Raises Unsupported if there is no safe place."""
    return os.path.join(find_home(xar.values.get(b"MOUNT_ROOT")), _name(xar))


def _name(xar: XarFile) -> bytes:
    """Return the mountpoint's name."""
    seed = os.environb.get(b"XAR_MOUNT_SEED", b"")  # xarexec_fuse's, for callers who want a mount of their own
    seed = b"-seed-" + seed if seed and b"/" not in seed else b""
    words = xar.values[b"UUID"], xar.members.digest, seed, _ended_with_us(), os.stat("/proc/self/ns/mnt").st_ino
    return b"%s-%s%s%s-ns-%d" % words


def _ended_with_us() -> bytes:
    """Return a word for what would take a server of ours along at its end: a pid namespace, a service manager's cgroup.

    Only callers that have these in common share a mount, as with xarexec_fuse: a container or a unit that is stopped
    ends its own.
    """
    number = os.stat("/proc/self/ns/pid").st_ino
    namespace = b"" if number == _FIRST_PIDS else b"-pid-%d" % number
    with open("/proc/self/cgroup", "rb") as file:
        lines = [line.rstrip(b"\n").split(b":", 2) for line in file]
    groups = [path for _, kind, path in lines if kind in _MANAGED and path != b"/"]  # cgroups(7)
    return namespace + (b"-group-%08x" % crc32(b"\n".join(groups)) if groups else b"")


def answers(path: bytes) -> bool:
    """Tell whether something is mounted at `path` and its server answers; what a crash left is taken away.

    To be asked with the lock in hand.
    """
    device = os.stat(os.path.dirname(path)).st_dev
    while True:
        try:
            st = os.lstat(path)
            if not stat.S_ISDIR(st.st_mode):
                raise InvalidArgument(f"{os.fsdecode(path)} is in the way: a XAR is to be mounted there", "remove it")
            if st.st_dev == device:
                return False
            os.statvfs(path)  # asks the server, whatever the kernel has cached
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _DEAD:
                raise
        from layerfs.sys.mounts import unmount

        unmount(path, lazy=True)
