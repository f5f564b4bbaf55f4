"""User, mount and pid namespaces: entering them, and whose ids are shown in them.

`enter_user_namespace` is rootless: id 0 inside is the caller, ids from 1 on are the ranges of /etc/subuid and
/etc/subgid where the caller has any and newuidmap and newgidmap (setuid, package uidmap) are there.
"""

import errno
import os
import pwd
from collections.abc import Callable
from enum import IntFlag
from typing import NoReturn

from layerfs.sys.libc import call
from layerfs.sys.mounts import make_private
from layerfs.value import value

MNT_DETACH = 2
_READY = b"r"


class Namespace(IntFlag):
    """The kinds of namespaces that unshare(2) makes (linux/sched.h), and the table of descriptors."""

    FILES = 0x00000400  # the calling thread's
    MOUNT = 0x00020000
    USER = 0x10000000
    PID = 0x20000000


@value
class Subordinate:
    """A run of ids that a user may map into their namespaces (subuid(5))."""

    start: int
    count: int


def unshare(spaces: Namespace) -> None:
    """Leave namespaces for new ones; a new pid namespace is for the next child. Raises OSError (EPERM, ENOSPC)."""
    call("unshare", int(spaces))


def with_own_mounts(action: Callable[[], int]) -> int:
    """Call in a thread that has a mount namespace of its own, a private copy of ours, and return what it returned.

    What is mounted there is gone afterwards, and nobody else has seen it; descriptors are the process's and stay.
    """
    from threading import Thread

    results: list[int] = []
    errors: list[BaseException] = []

    def act() -> None:
        try:
            unshare(Namespace.MOUNT)
            make_private(b"/", recursive=True)
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=act)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def trusted_xattrs() -> bool:
    """Tell whether this process may set trusted.* xattrs, which only CAP_SYS_ADMIN outside user namespaces may."""
    fd = os.memfd_create("layerfs")
    try:
        os.setxattr(fd, "trusted.layerfs", b"")
        return True
    except OSError as error:
        if error.errno == errno.EPERM:
            return False
        if error.errno == errno.EOPNOTSUPP:  # a kernel whose tmpfs has no xattrs cannot tell us
            return os.geteuid() == 0 and not in_user_namespace()
        raise
    finally:
        os.close(fd)


def in_user_namespace() -> bool:
    """Tell whether ids are mapped, as they are in every user namespace but the first."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]


def enter_user_namespace() -> None:
    """Become id 0 of a new user namespace, with every capability in it. Only in a process of one thread.

    The maps are written from outside by a child that stays there. Where newuidmap or newgidmap is missing or refuses,
    the caller alone is mapped, which denies setgroups(2) (user_namespaces(7)).
    Raises OSError of unshare(2): EPERM or ENOSPC where the host does not want user namespaces.
    """
    uid, gid = os.geteuid(), os.getegid()
    maps = {"newuidmap": map_words(uid, subordinate_uids(uid)), "newgidmap": map_words(gid, subordinate_gids(uid))}
    pid = os.getpid()
    wait, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        _map_from_outside(wait, pid, maps)
    os.close(wait)
    try:
        unshare(Namespace.USER)
        os.write(go, _READY)
    finally:
        os.close(go)
        os.waitpid(helper, 0)
    _map_myself(uid, gid)


def _map_from_outside(wait: int, pid: int, maps: dict[str, list[str]]) -> NoReturn:
    """Wait until a process is in its namespace, have the setuid programs write its maps, and exit.

    Nothing is reported: the process finds its maps written, or it does not.
    """
    try:
        if os.read(wait, 1) == _READY:
            for program, words in maps.items():
                _run_quietly(program, [str(pid), *words])
    finally:
        os._exit(0)


def _run_quietly(program: str, arguments: list[str]) -> None:
    """Run a program to its end, if it is there."""
    import shutil  # 8 ms that a mount need not pay

    path = shutil.which(program)
    if path is not None:
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
        os.waitpid(os.posix_spawn(path, [program, *arguments], os.environ, file_actions=actions), 0)


def map_words(own: int, ranges: list[Subordinate]) -> list[str]:
    """Return the triples INSIDE OUTSIDE COUNT that newuidmap takes: the caller as 0, then the ranges from 1 on."""
    words, inside = ["0", str(own), "1"], 1
    for run in ranges:
        words += [str(inside), str(run.start), str(run.count)]
        inside += run.count
    return words


def _map_myself(uid: int, gid: int) -> None:
    """Map the caller alone where nobody has written a map."""
    if _is_unmapped("uid_map"):
        _write("uid_map", f"0 {uid} 1")
    if _is_unmapped("gid_map"):
        _write("setgroups", "deny")
        _write("gid_map", f"0 {gid} 1")


def _is_unmapped(name: str) -> bool:
    with open(f"/proc/self/{name}", "rb") as file:
        return not file.read()


def _write(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)


def subordinate_uids(uid: int) -> list[Subordinate]:
    """Return a user's ranges of /etc/subuid, in its order."""
    return _subordinates("/etc/subuid", uid)


def subordinate_gids(uid: int) -> list[Subordinate]:
    """Return a user's ranges of /etc/subgid, in its order (it names users too)."""
    return _subordinates("/etc/subgid", uid)


def _subordinates(path: str, uid: int) -> list[Subordinate]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_subordinates(file.read(), _names(uid))
    except FileNotFoundError:
        return []


def _names(uid: int) -> set[str]:
    try:
        return {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        return {str(uid)}


def parse_subordinates(text: str, names: set[str]) -> list[Subordinate]:
    """Return the ranges that lines NAME:START:COUNT give to one of the names; lines that are none are passed over."""
    found = []
    for line in text.splitlines():
        name, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if name in names and start.isdigit() and count.isdigit() and int(count):
            found.append(Subordinate(int(start), int(count)))
    return found


def pivot_root(new: bytes) -> None:
    """Make the mountpoint `new` the root of this mount namespace; the old root lies under ".", for `drop_old_root`.

    The trick with two dots needs no directory in the new root for the old one (pivot_root(2), NOTES).
    """
    os.chdir(new)
    call("pivot_root", b".", b".", path=new)


def drop_old_root() -> None:
    """Let go of what `pivot_root` left under "."."""
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")
