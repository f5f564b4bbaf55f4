"""What this host can do, each feature found by trying it: yes and how much, or no, why, and what to do about it.

Nothing is concluded from a version. What has to mount does so in a child with namespaces of its own
(`layerfs.sys.mountprobe`); what needs files makes them in a scratch directory, which is removed.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from layerfs.sys import dirs
from layerfs.sys.fsmount import AT_FDCWD
from layerfs.sys.libc import call
from layerfs.sys.namespaces import subordinate_gids, subordinate_uids

FICLONE = 0x40049409  # linux/fs.h
ENABLE_URING = "/sys/module/fuse/parameters/enable_uring"
_IO_URING_SETUP = 425  # the same on every architecture that we know of
_IO_URING_PARAMS = 120  # bytes of struct io_uring_params
_OVER_DEVICE = "requests come over /dev/fuse"
FUSE_CONF = "/etc/fuse.conf"
FUSE_DEVICE = os.makedev(10, 229)  # linux/miscdevice.h
MAKE_DEVICE = "as root: rm /dev/fuse && mknod -m 666 /dev/fuse c 10 229"
_RANGE = "100000-165535"
FEW_DESCRIPTORS = 4096  # a layer and an open file are one each; guessed


class Area(Enum):
    """What a feature is good for."""

    FUSE = "FUSE"
    KERNEL = "kernel overlayfs"
    NAMESPACES = "user namespaces"
    DIRECTORY = "directory"
    HOST = "host"
    SNAPSHOTTERS = "snapshotters"


class State(Enum):
    """How a feature is, for people."""

    YES = "yes"
    NO = "no"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: `detail` says how much there is of it, or why it is missing; `remedy` is the next step then.

    `instead` says what serves in its place, or who alone wants it: without the feature nothing is amiss then. A remedy
    is a list of steps, with `; ` between them.
    """

    area: Area
    name: str
    present: bool
    detail: str
    remedy: str = ""
    instead: str = ""

    @property
    def state(self) -> State:
        """Whether it is there, and if not whether that matters."""
        if self.present:
            return State.YES
        return State.NOT_NEEDED if self.instead else State.NO


class Absent(Exception):
    """A feature that is not there: why, and what differs from the probe's usual remedy and its substitute."""

    def __init__(self, why: str, remedy: str = "", instead: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Probe:
    """How to try one feature in a scratch directory: returns a detail, or raises Absent or OSError."""

    area: Area
    name: str
    attempt: Callable[[bytes], str]
    remedy: str = ""
    instead: str = ""

    def run(self, scratch: bytes) -> Feature:
        """Try it; no exception that a host may cause leaves here."""
        try:
            return Feature(self.area, self.name, True, self.attempt(scratch))
        except Absent as absent:
            usual = "" if absent.instead else self.remedy
            return self._absent(absent.why, absent.remedy or usual, absent.instead or self.instead)
        except OSError as error:
            return self._absent(error.strerror or str(error), self.remedy, self.instead)

    def _absent(self, why: str, remedy: str, instead: str) -> Feature:
        return Feature(self.area, self.name, False, why, remedy, instead)


@contextmanager
def scratch_in(directory: bytes) -> Iterator[bytes]:
    """Yield a new directory within `directory`, removed with all below it at the end."""
    place = os.path.join(os.path.abspath(directory), b".layerfs-probe-" + os.urandom(8).hex().encode())
    os.mkdir(place, 0o700)
    try:
        yield place
    finally:
        dirs.remove(AT_FDCWD, place)


def _device(_scratch: bytes) -> str:
    try:
        fd = os.open(b"/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Absent("there is no /dev/fuse", "as root: modprobe fuse; in a container: --device /dev/fuse") from None
    try:
        st = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISCHR(st.st_mode) or st.st_rdev != FUSE_DEVICE:
        raise Absent("/dev/fuse is not the FUSE device", MAKE_DEVICE)
    return "opens"


def _fusermount(_scratch: bytes) -> str:
    path = _program("fusermount3")
    st = os.stat(path)
    if not st.st_mode & stat.S_ISUID or st.st_uid:
        raise Absent(f"{path} is not setuid root", f"as root: chown root {path} && chmod u+s {path}")
    return path


def _program(name: str) -> str:
    import shutil

    path = shutil.which(name)
    if path is None:
        raise Absent(f"{name} is not on PATH")
    return path


def _allow_other(_scratch: bytes) -> str:
    if os.geteuid() == 0:
        return "root needs no permission"
    try:
        with open(FUSE_CONF, "rb") as file:
            if any(line.strip() == b"user_allow_other" for line in file):
                return f"{FUSE_CONF} says so"
    except FileNotFoundError:
        pass
    raise Absent(f"{FUSE_CONF} does not say user_allow_other")


def _uring(_scratch: bytes) -> str:
    try:
        with open(ENABLE_URING, encoding="ascii") as file:
            enabled = file.read().strip() in ("Y", "1")
    except FileNotFoundError:
        raise Absent("this kernel's FUSE has no io_uring; a newer one (6.14) has it") from None
    if not enabled:
        raise Absent("off", f"as root, for mounts from then on: echo Y > {ENABLE_URING}", _OVER_DEVICE)
    try:
        os.close(call(_IO_URING_SETUP, 1, ctypes.create_string_buffer(_IO_URING_PARAMS)))
    except OSError as error:
        why = f"on, but io_uring is not for this process: {error.strerror}"
        remedy = "as root: sysctl kernel.io_uring_disabled=0; in a container: a seccomp profile with io_uring_setup"
        raise Absent(why, remedy, _OVER_DEVICE) from None
    return "on"


def _subordinate_ids(_scratch: bytes) -> str:
    uid = os.getuid()
    uids = sum(run.count for run in subordinate_uids(uid))
    gids = sum(run.count for run in subordinate_gids(uid))
    if (not uids or not gids) and uid == 0:
        raise Absent("root has none", instead="root has all ids")
    if not uids or not gids:
        command = f"usermod --add-subuids {_RANGE} --add-subgids {_RANGE} {_own_name()}"
        raise Absent(f"none in {'/etc/subuid' if not uids else '/etc/subgid'}", f"as root: {command}")
    for name in ("newuidmap", "newgidmap"):
        try:
            _program(name)
        except Absent as absent:
            raise Absent(absent.why, "as root: apt-get install uidmap") from None
    return f"{uids} uids, {gids} gids"


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _whiteout_device(scratch: bytes) -> str:
    os.mknod(scratch + b"/whiteout", stat.S_IFCHR | 0o600, 0)
    return "whiteouts are devices"


def _xattr(name: str) -> Callable[[bytes], str]:
    def attempt(scratch: bytes) -> str:
        os.setxattr(scratch, name, b"y")
        if os.getxattr(scratch, name) != b"y":
            raise Absent("set, but not kept")
        return "kept"

    return attempt


def _reflink(scratch: bytes) -> str:
    import fcntl

    with _two_files(scratch) as (source, target):
        fcntl.ioctl(target, FICLONE, source)
    return "copies cost nothing"


def _copy_file_range(scratch: bytes) -> str:
    with _two_files(scratch) as (source, target):
        if os.copy_file_range(source, target, 1) != 1:
            raise Absent("copies nothing")
    return "the kernel copies"


@contextmanager
def _two_files(scratch: bytes) -> Iterator[tuple[int, int]]:
    source = os.open(scratch + b"/source", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    target = os.open(scratch + b"/target", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(source, b"x" * 4096, 0)
        yield source, target
    finally:
        os.close(source)
        os.close(target)


def _rename(flag: int) -> Callable[[bytes], str]:
    def attempt(scratch: bytes) -> str:
        name, other = scratch + b"/rename-%d" % flag, scratch + b"/rename-%d-to" % flag
        for path in (name, other):
            os.mkdir(path)
        dirs.rename(AT_FDCWD, name, AT_FDCWD, other, flag)
        return "in one step"

    return attempt


def _tmpfile(scratch: bytes) -> str:
    os.close(os.open(scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    return "files without a name"


def _descriptors(_scratch: bytes) -> str:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_DESCRIPTORS:
        raise Absent(f"at most {hard} open files")
    return f"{soft}, can be raised to {'any' if hard == resource.RLIM_INFINITY else hard}"


def _processors(_scratch: bytes) -> str:
    count = len(os.sched_getaffinity(0))
    if count == 1:
        raise Absent("one processor: the server does not wait awake for the next request")
    return f"{count} processors"


# mount.fuse3(8), "Security": whoever serves a filesystem decides what others see in it, and when they get an answer.
RISK = (
    "only -o allow_other without root needs it; it lets every user of this host mount what all others, root too, walk "
    "into: such a mount may hang whoever looks at it, and say of its files whatever it likes, owners too"
)
PROBES = (
    Probe(Area.FUSE, "/dev/fuse", _device, "as root: chmod 666 /dev/fuse"),
    Probe(Area.FUSE, "fusermount3, setuid", _fusermount, "as root: apt-get install fuse3"),
    Probe(Area.FUSE, "mounts for other users", _allow_other, f"as root: echo user_allow_other >> {FUSE_CONF}", RISK),
    Probe(Area.FUSE, "FUSE over io_uring", _uring, instead=_OVER_DEVICE),
    Probe(Area.NAMESPACES, "ranges of ids", _subordinate_ids, "as root: apt-get install uidmap"),
    Probe(Area.DIRECTORY, "mknod of char 0/0", _whiteout_device, instead="whiteouts become .wh. files"),
    Probe(
        Area.DIRECTORY, "user.* xattrs", _xattr("user.layerfs"), "put uppers on another filesystem (ext4, xfs, btrfs)"
    ),
    Probe(Area.DIRECTORY, "trusted.* xattrs", _xattr("trusted.layerfs"), instead="without root user.* ones serve"),
    Probe(Area.DIRECTORY, "reflink", _reflink, instead="data is copied; btrfs and xfs need not"),
    Probe(Area.DIRECTORY, "copy_file_range", _copy_file_range, instead="data is read and written"),
    Probe(
        Area.DIRECTORY,
        "renameat2 WHITEOUT",
        _rename(dirs.RENAME_WHITEOUT),
        instead="FUSE does without; kernel overlayfs wants ext4, xfs, btrfs or tmpfs",
    ),
    Probe(
        Area.DIRECTORY, "renameat2 EXCHANGE", _rename(dirs.RENAME_EXCHANGE), "put uppers on ext4, xfs, btrfs or tmpfs"
    ),
    Probe(Area.DIRECTORY, "O_TMPFILE", _tmpfile, instead="files get a name meanwhile"),
    Probe(Area.HOST, "open files", _descriptors, f"ulimit -Hn {FEW_DESCRIPTORS}, or raise it where the session starts"),
    Probe(Area.HOST, "processors", _processors, instead="a second one halves the cost of a request"),
)


def missing_module(error: OSError, module: str) -> Absent:
    """Return what ENODEV of a filesystem means."""
    if error.errno == errno.ENODEV:
        return Absent(f"this kernel has no {module}", f"as root: modprobe {module}")
    return Absent(error.strerror or str(error))
