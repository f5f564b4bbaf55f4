"""The features of `layerfs.sys.probe` that are tried by mounting, each in a child with namespaces of its own."""

import os
import zlib
from base64 import b85decode
from collections.abc import Callable

from layerfs.model import Stack
from layerfs.sys import fsmount
from layerfs.sys.loop import free_device, mount_image, open_control
from layerfs.sys.mounts import make_private
from layerfs.sys.namespaces import Namespace, enter_user_namespace, trusted_xattrs, unshare
from layerfs.sys.overlay import layer_syntax, mount_overlay
from layerfs.sys.probe import Absent, Area, Probe, missing_module

MANY_LAYERS = 300
SYSCTLS = (
    ("user.max_user_namespaces", 10000),
    ("user.max_mnt_namespaces", 10000),
    ("kernel.unprivileged_userns_clone", 1),  # Debian's
    ("kernel.apparmor_restrict_unprivileged_userns", 0),  # Ubuntu's
)
LONG = 200  # bytes of each name of the two in a layer's path: more than an fsconfig string holds

# An empty directory as mksquashfs 4.5 writes it: -noI -noX -no-xattrs -all-root -all-time 0.
_SQUASHFS = (
    b"c-rmFtqp)M5QgFJXa$xH7!8RfU7$fDQApNd7G{8?IevmhzK^&!ZF0Fj4asz=$}~0Ff+^~;"
    b"dKd5EI)9I!PTn?~_WOXn?gVe0_1TT(XBGee0002^#|hFU5rq"
)


def apart(action: Callable[[], str]) -> str:
    """Do something in a child that ends with it, and return what it returned; raises Absent with what went wrong.

    A namespace entered there, and every mount in it, is gone with the child.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(told)
            _report(tell, action)
        finally:
            os._exit(0)
    os.close(tell)
    with open(told, "rb") as pipe:
        verdict, _, text = os.fsdecode(pipe.read()).partition(" ")
    os.waitpid(pid, 0)
    if verdict == "yes":
        return text
    why, remedy, instead, *_ = [*text.split("\0"), "", ""]
    raise Absent(why or "the attempt ended without a word", remedy, instead)


def _report(tell: int, action: Callable[[], str]) -> None:
    try:
        said = f"yes {action()}"
    except Absent as absent:
        said = f"no {absent.why}\0{absent.remedy}\0{absent.instead}"
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, bytes) else ""
        said = f"no {error.strerror or error}{where}"
    os.write(tell, os.fsencode(said))


def enter_as_root() -> None:
    """Enter a private mount namespace with the rights we have; Absent if these are none."""
    try:
        unshare(Namespace.MOUNT)
    except PermissionError:
        raise Absent("not root") from None
    make_private(b"/", recursive=True)


def enter_as_anybody() -> None:
    """Enter a private mount namespace through a user namespace."""
    enter_user_namespace()
    unshare(Namespace.MOUNT)
    make_private(b"/", recursive=True)


def _user_namespace(_scratch: bytes) -> str:
    def enter() -> str:
        enter_as_anybody()
        with open("/proc/self/uid_map", encoding="ascii") as file:
            count = sum(int(line.split()[2]) for line in file)
        return f"{count} ids mapped" if count > 1 else "one id mapped: your own"

    try:
        return apart(enter)
    except Absent as absent:
        raise Absent(absent.why, absent.remedy or _permit_namespaces()) from None


def _permit_namespaces() -> str:
    """Return the settings of this kernel that let users make namespaces."""
    words = [f"{name}={value}" for name, value in SYSCTLS if os.path.exists(f"/proc/sys/{name.replace('.', '/')}")]
    return f"as root: sysctl {' '.join(words)}"


def _overlay(enter: Callable[[], None]) -> Callable[[bytes], str]:
    def attempt(scratch: bytes) -> str:
        return apart(lambda: _mount_overlay(enter, scratch))

    return attempt


def _mount_overlay(enter: Callable[[], None], scratch: bytes) -> str:
    """Mount with an upper on the scratch directory's filesystem and see a whiteout made."""
    enter()
    place = scratch + b"/overlay-%d" % os.getpid()
    lower, upper, work, target = (place + b"/" + name for name in (b"lower", b"upper", b"work", b"target"))
    for path in (place, lower, upper, work, target, lower + b"/directory"):
        os.mkdir(path)
    try:
        mount_overlay(Stack((lower,), upper, work), target, () if trusted_xattrs() else ("userxattr",))
    except OSError as error:
        raise missing_module(error, "overlay") from error
    os.rmdir(target + b"/directory")
    os.mkdir(target + b"/directory")  # needs an opaque mark
    return f"layers by {layer_syntax().value}"


def _many_layers(scratch: bytes) -> str:
    def attempt() -> str:
        try:
            enter_as_root()
        except Absent:
            enter_as_anybody()
        fsmount.mount_new(b"tmpfs", scratch)
        target = scratch + b"/target"
        os.mkdir(target)
        mount_overlay(Stack(_long_paths(scratch)), target, () if trusted_xattrs() else ("userxattr",))
        return f"{MANY_LAYERS} layers, paths of {len(_long_paths(scratch)[0])} bytes, by {layer_syntax().value}"

    return apart(attempt)


def _long_paths(scratch: bytes) -> tuple[bytes, ...]:
    """Return the paths of many new directories."""
    base = scratch + b"/" + b"l" * LONG
    paths = tuple(base + b"/%03d" % number + b"l" * LONG for number in range(MANY_LAYERS))
    for path in paths:
        os.makedirs(path, exist_ok=True)
    return paths


def _loop(_scratch: bytes) -> str:
    with open_control() as control:
        return f"/dev/loop{free_device(control)} is free"


def _squashfs(scratch: bytes) -> str:
    path = scratch + b"/image"
    with open(path, "wb") as image:
        image.write(zlib.decompress(b85decode(_SQUASHFS)))
    try:
        os.close(mount_image(path, 0))
    except PermissionError:
        raise Absent("not root") from None
    except OSError as error:
        raise missing_module(error, "squashfs") from error
    return "images mount through loop devices"


_READS = "layerfs reads images itself"
MOUNT_PROBES = (
    Probe(Area.NAMESPACES, "user and mount namespaces", _user_namespace),
    Probe(Area.KERNEL, "as root", _overlay(enter_as_root), "be root, or use FUSE or `layerfs run`"),
    Probe(Area.KERNEL, "in a user namespace", _overlay(enter_as_anybody), "use FUSE"),
    Probe(Area.KERNEL, f"{MANY_LAYERS} layers", _many_layers, "use FUSE for more than about 60 layers"),
    Probe(Area.HOST, "loop devices", _loop, instead=_READS),
    Probe(Area.HOST, "squashfs mounts", _squashfs, instead=_READS),
)
