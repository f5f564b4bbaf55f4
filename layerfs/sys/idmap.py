"""Idmapped mounts: a tree shown with other owners than it has on disk (mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12).

The mapping is that of a user namespace, which a program makes that is started for this alone: a process with threads,
such as a daemon, must not fork.
"""

import os
import sys
from contextlib import suppress
from typing import Final

from layerfs.sys.fsmount import MountAttr, clone_tree, set_mount_attr
from layerfs.value import value

_IDMAP: Final = 0x00100000  # MOUNT_ATTR_IDMAP (linux/mount.h)
_PROGRAM: Final = """
import ctypes, os
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0:
    os.write(1, b"r")
os.read(0, 1)
"""


@value
class IdRun:
    """`count` ids: `disk` is what stands on disk, `shown` what the mount shows."""

    disk: int
    shown: int
    count: int


def mapped_tree(path: bytes, namespace: int) -> int:
    """Return the descriptor of a mount, nowhere yet, of a directory with the owners that a user namespace gives them.

    Raises OSError: EINVAL where the filesystem or the kernel cannot do that, EPERM without the privilege.
    """
    mount = clone_tree(path)
    try:
        set_mount_attr(mount, MountAttr(attr_set=_IDMAP, userns_fd=namespace), recursive=True)
    except BaseException:
        os.close(mount)
        raise
    return mount


def namespace_of(uids: tuple[IdRun, ...], gids: tuple[IdRun, ...]) -> int:
    """Return the descriptor of a user namespace with these maps, in which no process is left. Raises OSError."""
    told, tell = os.pipe()
    heard, hear = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, told, 0), (os.POSIX_SPAWN_DUP2, hear, 1)]
    try:
        pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", _PROGRAM], {}, file_actions=actions)
    except BaseException:
        os.close(tell)
        os.close(heard)
        raise
    finally:
        os.close(told)
        os.close(hear)
    try:
        if os.read(heard, 1) != b"r":
            raise PermissionError("this host does not let you make user namespaces")
        for name, runs in (("uid_map", uids), ("gid_map", gids)):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write("".join(f"{run.disk} {run.shown} {run.count}\n" for run in runs))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tell)
        os.close(heard)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
