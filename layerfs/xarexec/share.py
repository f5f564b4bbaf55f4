"""One mount of a XAR and all that it depends on, for all callers of a user in a mount namespace, while it is used.

    glance at the files -> the mountpoint's name -> lock -> does it answer? --+-- yes ----------------+-> hold its root,
                                                                             +-- no: mount, glance   |   unlock
                                                                                 at the files again -+

The name holds the header's UUID, for people to read, and what tells one content from another: device, inode, size and
both times [ns] of each file. A changed or exchanged file has another time of change, which nobody can set; a digest of
the contents would have to read them whole before each start. Two XARs with one UUID have two mounts.

Nobody loses a mount that they were just told of: looking asks the server for statistics, which counts as use, and the
server that wants to leave does so with the lock in hand, having seen that nobody asked since. What is held open, as the
root is for `layerfs xar exec`, makes the unmount fail: it is never a lazy one.

This module is what every start of a program in a XAR costs, so it imports next to nothing. Mounting is in serve.py.
"""

import errno
import os
import stat

from layerfs.errors import InvalidArgument
from layerfs.xarexec.home import find_home, locked
from layerfs.xarexec.memo import Graph, Stamp, graph_of, spell, stamp_of

TIMEOUT = 870.0  # s without use after which a mount goes, as xarexec_fuse has it
STOP = b"\n#xar_stop\n"
_HEADER = 8192  # bytes; the longest there is
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Package:
    """A XAR as it is now: what its header says, and the files to mount."""

    __slots__ = ("graph", "values")

    def __init__(self, values: dict[bytes, bytes], graph: Graph) -> None:
        self.values = values
        self.graph = graph

    def is_same(self, other: "Package") -> bool:
        """Tell whether the same files with the same contents are to be mounted."""
        return self.graph.lowers == other.graph.lowers and self.graph.stamps == other.graph.stamps


class Shared:
    """A shared mount. `root` is an O_PATH descriptor of its root, the caller's: while it is open the mount stays.

    `fresh` when this call made the mount; `target` is XAREXEC_TARGET.
    """

    __slots__ = ("fresh", "path", "root", "target")

    def __init__(self, path: bytes, package: Package, *, fresh: bool) -> None:
        self.path = path
        self.target = package.values.get(b"XAREXEC_TARGET") or None
        self.fresh = fresh
        self.root = os.open(path, _ROOT)


def examine(file: bytes, *, anew: bool = False) -> Package:
    """Return a XAR and its dependencies as they are now; `anew` looks for these again, whatever is remembered.

    Raises Corrupt, OSError, and what resolving raises.
    """
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not keep us
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{os.fsdecode(file)} is not a file", "give a XAR")
        values = _glance(fd, file)
        stamp = stamp_of(os.fstat(fd))
    finally:
        os.close(fd)
    path = os.path.abspath(file)
    if not values.get(b"DEPENDENCIES", b"").strip():
        return Package(values, _alone(path, stamp))
    return Package(values, graph_of(path, stamp, values.get(b"MOUNT_ROOT"), anew=anew))


def _alone(path: bytes, stamp: Stamp) -> Graph:
    """Return the graph of a XAR that depends on nothing: its stamp need not be digested, which saves 4 ms."""
    return Graph((path,), (stamp,), spell(stamp))


def _glance(fd: int, file: bytes) -> dict[bytes, bytes]:
    """Return what a XAR's header says, taken at its word: whoever mounts it reads it strictly first."""
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
    from layerfs.xar.header import is_xar, read_header

    if not is_xar(fd):
        raise InvalidArgument(f"{os.fsdecode(file)} is not a XAR", "layerfs mount takes plain squashfs images")
    read_header(fd, file)


def place(package: Package) -> bytes:
    """Return where a package is mounted, or would be. Raises Unsupported if there is no safe place."""
    return os.path.join(find_home(package.values.get(b"MOUNT_ROOT")), _name(package))


def _name(package: Package) -> bytes:
    """Return the mountpoint's name."""
    seed = os.environb.get(b"XAR_MOUNT_SEED", b"")  # xarexec_fuse's, for who wants a mount of their own
    seed = b"-seed-" + seed if seed and b"/" not in seed else b""
    return b"%s-%s%s-ns-%d" % (package.values[b"UUID"], package.graph.digest, seed, os.stat("/proc/self/ns/mnt").st_ino)


def mount(file: bytes, timeout: float = TIMEOUT, *, to_run: bool = False) -> Shared:
    """Return the mount of a XAR, made if there is none that answers; `timeout` [s] is for one that is made, 0 for ever.

    Raises what `examine`, `place` and launching raise; InvalidArgument, before anything is mounted, for a XAR without a
    target that is `to_run`.
    """
    anew = False
    while True:
        package = examine(file, anew=anew)
        if to_run and not package.values.get(b"XAREXEC_TARGET"):
            text = f"{os.fsdecode(file)} names no XAREXEC_TARGET, so there is nothing to run"
            raise InvalidArgument(text, "layerfs xar ls FILE shows what is in it, layerfs xar mount FILE mounts it")
        path = place(package)
        with locked(path):
            if answers(path):
                return Shared(path, package, fresh=False)
            from layerfs.xarexec.serve import mount_anew

            if mount_anew(file, package, path, timeout):
                return Shared(path, package, fresh=True)
        anew = True


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
