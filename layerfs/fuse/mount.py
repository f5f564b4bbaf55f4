"""Open /dev/fuse and mount it, before anything heavy is imported: requests queue until somebody serves them.

With mount(2) where the caller may (root, also of a user namespace), else with the setuid program fusermount3.
Nothing here may look at the mountpoint once it is mounted: nobody answers yet.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, Unsupported
from layerfs.spec.attach import AttachOptions
from layerfs.sys.mountinfo import DEAD
from layerfs.sys.mounts import MountFlag, mount_raw
from layerfs.sys.terminal import shell_word

if TYPE_CHECKING:
    import socket

DEVICE = b"/dev/fuse"
NUMBER = os.makedev(10, 229)  # linux/miscdevice.h
FUSERMOUNT = b"fusermount3"
CONF = "/etc/fuse.conf"

# What fusermount3 understands; nosuid and nodev it adds itself. The rest says when times are kept: harmless to drop.
_FUSERMOUNT_WORDS = {
    MountFlag.RDONLY: b"ro",
    MountFlag.NOSUID: b"nosuid",
    MountFlag.NODEV: b"nodev",
    MountFlag.NOEXEC: b"noexec",
    MountFlag.SYNCHRONOUS: b"sync",
    MountFlag.DIRSYNC: b"dirsync",
    MountFlag.NOATIME: b"noatime",
}


def attach(mountpoint: bytes, options: AttachOptions) -> int:
    """Mount FUSE at `mountpoint` and return the device's descriptor, which is the caller's to serve and to close.

    Raises NotFound and InvalidArgument for the mountpoint, Unsupported where the host does not permit FUSE, OSError.
    """
    mode = check_mountpoint(mountpoint)
    device = _open_device()
    try:
        _mount(device, mode, mountpoint, options)
    except PermissionError:
        os.close(device)
        return _fusermount(mountpoint, options)
    except OSError as error:
        os.close(device)
        raise _no_fuse() if error.errno == errno.ENODEV else error from None
    return device


def attach_nowhere(options: AttachOptions) -> tuple[int, int]:
    """Make a FUSE mount that is at no mountpoint; return the descriptors of its device and of the mount.

    The mount is gone when its descriptor is closed and nothing else uses it. Only for those who may mount without
    fusermount3. Raises Unsupported where the host does not permit FUSE, OSError.
    """
    from layerfs.sys.fsmount import FsContext  # `attach` does not need it

    device = _open_device()
    try:
        with FsContext(b"fuse") as context:
            context.set_string(b"source", options.source)
            context.set_string(b"subtype", options.subtype)
            for word in _own_words(device, stat.S_IFDIR, options):
                context.set_option(os.fsdecode(word))
            context.create(options.flags)
            return device, context.mount(options.flags)
    except OSError as error:
        os.close(device)
        raise _no_fuse() if error.errno == errno.ENODEV else error from None


def _open_device() -> int:
    try:
        st = os.stat(DEVICE)
        if not stat.S_ISCHR(st.st_mode) or st.st_rdev != NUMBER:
            remedy = "as root: rm /dev/fuse && mknod -m 666 /dev/fuse c 10 229"
            raise Unsupported("/dev/fuse is not the FUSE device", remedy)
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError) as error:
        raise _no_device(error) from None


def check_mountpoint(mountpoint: bytes) -> int:
    """Return the mountpoint's type, having seen that it is a directory that answers; else NotFound, InvalidArgument."""
    try:
        mode = os.stat(mountpoint).st_mode
        os.statvfs(mountpoint)  # asks the server of a FUSE mount, whatever the kernel has cached
    except FileNotFoundError:
        raise NotFound(f"no such mountpoint: {os.fsdecode(mountpoint)}", "make the directory first") from None
    except OSError as error:
        if error.errno not in DEAD:
            raise
        text = f"{os.fsdecode(mountpoint)} is a mount whose server is dead"
        raise InvalidArgument(text, f"layerfs umount {shell_word(mountpoint)}") from None
    if not stat.S_ISDIR(mode):
        raise InvalidArgument(f"the mountpoint {os.fsdecode(mountpoint)} is not a directory")
    return stat.S_IFMT(mode)


def _no_device(error: OSError) -> LayerfsError:
    if error.errno == errno.ENOENT:
        return Unsupported("/dev/fuse is missing", "as root: modprobe fuse; in a container: --device /dev/fuse")
    return Unsupported("not permitted to open /dev/fuse", "as root: chmod 666 /dev/fuse, as udev does")


def _no_fuse() -> LayerfsError:
    return Unsupported("this kernel has no FUSE", "as root: modprobe fuse")


def _mount(device: int, mode: int, mountpoint: bytes, options: AttachOptions) -> None:
    """Mount with mount(2)."""
    kind = b"fuse." + options.subtype
    mount_raw(kind, options.source, mountpoint, options.flags, b",".join(_own_words(device, mode, options)))


def _own_words(device: int, mode: int, options: AttachOptions) -> list[bytes]:
    """Return what fs/fuse/inode.c reads: rootmode in octal, ids as this user namespace sees them."""
    words = f"fd={device} rootmode={mode:o} user_id={os.geteuid()} group_id={os.getegid()}".encode().split()
    return [*words, *_shared_words(options)]


def _shared_words(options: AttachOptions) -> list[bytes]:
    """Return the options that the kernel and fusermount3 both read."""
    words = [] if options.unchecked else [b"default_permissions"]
    if not options.unchecked and (others_permitted() if options.allow_other is None else options.allow_other):
        words.append(b"allow_other")
    if options.max_read:
        words.append(b"max_read=%d" % options.max_read)
    return words


def others_permitted() -> bool:
    """Tell whether this user may let others into a mount: root, or everybody by the word in /etc/fuse.conf."""
    if os.geteuid() == 0:
        return True
    try:
        with open(CONF, "rb") as conf:
            return any(line.strip() == b"user_allow_other" for line in conf)
    except FileNotFoundError:
        return False


def _fusermount(mountpoint: bytes, options: AttachOptions) -> int:
    """Have fusermount3 mount, which sends the device it opened over _FUSE_COMMFD (libfuse, util/fusermount.c)."""
    import socket  # 2 ms that root never pays

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        complaint = _run_fusermount(theirs, _fusermount_words(options), mountpoint)
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise _refused(complaint, mountpoint)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _fusermount_words(options: AttachOptions) -> bytes:
    if options.flags & MountFlag.NOSYMFOLLOW:
        raise Unsupported("fusermount3 cannot mount with nosymfollow", "leave it out, or mount as root")
    words = [word for flag, word in _FUSERMOUNT_WORDS.items() if options.flags & flag]
    words += _shared_words(options)
    return b",".join([*words, b"fsname=" + _escape(options.source), b"subtype=" + _escape(options.subtype)])


def _escape(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b",", b"\\,")


def _run_fusermount(channel: "socket.socket", options: bytes, mountpoint: bytes) -> str:
    """Run fusermount3 to its end and return what it said; subprocess would cost 10 ms to import."""
    heard, said = os.pipe()
    os.set_inheritable(channel.fileno(), True)
    environment = {**os.environb, b"_FUSE_COMMFD": str(channel.fileno()).encode()}
    command = [FUSERMOUNT, b"-o", options, b"--", mountpoint]
    with open(heard, "rb") as answer:
        try:
            pid = os.posix_spawnp(FUSERMOUNT, command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, said, 2)])
        except FileNotFoundError:
            raise Unsupported("not root, and fusermount3 is not installed", "install the package fuse3") from None
        finally:
            os.close(said)
        complaint = answer.read()
    os.waitpid(pid, 0)
    return os.fsdecode(complaint).strip()


def _refused(complaint: str, mountpoint: bytes) -> LayerfsError:
    """Return fusermount3's complaint with a next step where we know one."""
    text = complaint.removeprefix("fusermount3: ") or f"fusermount3 did not mount at {os.fsdecode(mountpoint)}"
    if "user_allow_other" in text:
        hint = "root can permit it for all users: layerfs doctor says what that risks, and how"
        return Unsupported("allow_other is not permitted", hint)
    if "/dev/fuse" in text:
        return Unsupported(text, "as root: chmod 666 /dev/fuse, as udev does")
    if os.path.ismount(mountpoint):
        return Unsupported(f"fusermount3: {text}", "something is mounted there already: layerfs umount takes it away")
    return Unsupported(f"fusermount3: {text}", "the mountpoint must be yours and writable; see layerfs doctor")
