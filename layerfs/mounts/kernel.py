"""One stack mounted by kernel overlayfs, and its refusals in our words.

Marks that only userland knows are not looked for, since finding them means reading every directory of every layer:
a layer with `.wh.` files or `user.fuseoverlayfs.opaque` shows them as they are under this driver, and what they hide.
Layers from tar archives of images, unpacked as they are, want --driver=fuse.
"""

import errno
import os

from layerfs.errors import InvalidArgument, LayerfsError, NotFound, NotReady, Unsupported
from layerfs.model import Stack
from layerfs.mounts.preflight import UNMOUNT, see_no_overlay
from layerfs.spec.overlay import USE_FUSE, USERXATTR, kernel_options
from layerfs.sys.mounts import MountFlag
from layerfs.sys.namespaces import trusted_xattrs
from layerfs.sys.overlay import mount_overlay
from layerfs.union.options import UnionOptions
from layerfs.union.validate import validate
from layerfs.union.work import scratch_in_use, upper_in_use

MAX_LOWERS = 500  # OVL_MAX_STACK in fs/overlayfs/params.h


def mount_kernel(stack: Stack, options: UnionOptions, mountpoint: bytes, generic_flags: int = MountFlag.NONE) -> None:
    """Mount a stack with kernel overlayfs: with trusted.* marks as root, with user.* ones in a user namespace.

    Raises Unsupported naming the option or the privilege that is missing, NotFound naming the layer, NotReady when the
    upper belongs to another mount, InvalidArgument for layers that overlap each other or the mountpoint.
    """
    validate(stack, mountpoint)
    mount_validated(stack, words_for(stack, options), mountpoint, generic_flags)


def words_for(stack: Stack, options: UnionOptions) -> tuple[str, ...]:
    """Return what overlayfs is to be told about a stack by this process. Raises Unsupported."""
    return kernel_options(options, writable=stack.upper is not None, trusted=trusted_xattrs())


def mount_validated(
    stack: Stack, words: tuple[str, ...], mountpoint: bytes, generic_flags: int = MountFlag.NONE
) -> None:
    """Do what `mount_kernel` does, wherever the mountpoint is: the kernel does not mind that it is in a layer."""
    try:
        if stack.upper is not None and stack.work is not None:
            see_no_overlay(stack)
            _refuse_in_use(stack.upper, stack.work)
            refuse_markless(stack.work, words)
        mount_overlay(stack, mountpoint, _for_filesystems(stack, words), generic_flags)
    except OSError as error:
        raise explain(error, stack) from error


def _for_filesystems(stack: Stack, words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words with which directories keep their numbers where layers are on several filesystems.

    With xino=auto they lose them if one has no UUID, as squashfs: a directory that the kernel forgets under memory
    pressure then comes back with another st_ino, and programs take it for another one (fs/overlayfs/super.c,
    ovl_get_fsid; shutil.rmtree says "symbolic link").
    """
    places = [path for path in (*stack.lowers, stack.upper) if path is not None]
    is_one = len({os.stat(path).st_dev for path in places}) == 1
    return words if is_one else tuple("xino=on" if word == "xino=auto" else word for word in words)


def _refuse_in_use(upper: bytes, work: bytes) -> None:
    """Raise NotReady if another mount has the upper or the work directory: without index=on the kernel only warns."""
    for path, in_use in ((upper, upper_in_use(upper)), (work, scratch_in_use(work))):
        if in_use:
            raise NotReady(f"{os.fsdecode(path)} is in use by another layerfs mount", UNMOUNT)


def refuse_markless(work: bytes, words: tuple[str, ...]) -> None:
    """Raise Unsupported if the upper's filesystem keeps no marks: overlayfs would mount and then fail with EIO.

    Tried on the work directory, which is ours.
    """
    name = f"{'user' if USERXATTR in words else 'trusted'}.overlay.layerfs"
    try:
        os.setxattr(work, name, b"")
        os.removexattr(work, name)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise Unsupported(
            f"the filesystem of {os.fsdecode(work)} keeps no {name.split('.')[0]}.* xattrs", USE_FUSE
        ) from error


def explain(error: OSError, stack: Stack) -> LayerfsError:
    """Return what an error of mounting this stack means to a person."""
    said = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        return NotFound(f"there is no directory {_missing(stack, error)}", "check the paths")
    if error.errno in _MEANINGS:
        kind, message, hint = _MEANINGS[error.errno]
        return kind(message, hint)
    if stack.work is not None and os.path.exists(stack.work + b"/work/incompat/volatile"):
        return NotReady(
            "the upper was last mounted volatile and may be incomplete",
            f"start with a new upper and work; to keep it all the same, remove {os.fsdecode(stack.work)}/work",
        )
    if error.errno == errno.EINVAL and len(stack.lowers) > MAX_LOWERS:
        return Unsupported(f"kernel overlayfs takes {MAX_LOWERS} lowers, not {len(stack.lowers)}", USE_FUSE)
    where = f" at {os.fsdecode(error.filename)}" if error.filename else ""
    return Unsupported(f"kernel overlayfs refuses this stack{where}: {said}", f"`dmesg` may say more; or {USE_FUSE}")


def _missing(stack: Stack, error: OSError) -> str:
    """Return the path that is not there; mount(2) names only its target."""
    paths = [path for path in (*stack.lowers, stack.upper, stack.work) if path is not None]
    return os.fsdecode(next((path for path in paths if not os.path.exists(path)), error.filename or b"?"))


_MEANINGS: dict[int, tuple[type[LayerfsError], str, str]] = {
    errno.EPERM: (
        Unsupported,
        "this user may not mount kernel overlayfs here",
        f"be root, use `layerfs run`, or {USE_FUSE}",
    ),
    errno.ENODEV: (Unsupported, "this kernel has no overlayfs", f"`modprobe overlay` as root, or {USE_FUSE}"),
    errno.ELOOP: (
        InvalidArgument,
        "a layer is given twice, is inside another, or holds the upper or work directory",
        "give each layer once",
    ),
    errno.EBUSY: (NotReady, "the upper or work directory is in use by another overlay", "unmount that first"),
}
