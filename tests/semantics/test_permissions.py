"""Point 7: permissions as on a native filesystem, seen by people without privileges."""

import errno
import mmap
import os
import stat
import struct
from collections.abc import Callable

import pytest

from layerfs.sys.dirs import umask
from tests.oracle.trees import Marks, build, directory, file
from tests.semantics.mounted import Mounted, acting_as, append, error_of, opened, read, root_only, write

ME, YOU, GROUP = 1000, 1001, 2000
NOBODY = 2**32 - 1
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, as setcap writes it


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL's bytes: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def mode_of(path: bytes) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@root_only
def test_sticky_directories_protect_other_peoples_names(union: Mounted) -> None:
    mine, yours = file(b"m", uid=ME, gid=ME), file(b"y", uid=YOU, gid=YOU)
    union.mount({b"t": directory(0o1777), b"t/mine": mine, b"t/yours": yours, b"free": directory(0o777)})
    with acting_as(ME):
        assert error_of(os.unlink, union / b"t/yours") == errno.EPERM
        assert error_of(os.rename, union / b"t/yours", union / b"t/new") == errno.EPERM
        assert error_of(os.rename, union / b"t/mine", union / b"t/yours") == errno.EPERM
        assert error_of(os.rename, union / b"t/yours", union / b"free/yours") == errno.EPERM
        os.rename(union / b"t/mine", union / b"t/mine2")
        os.unlink(union / b"t/mine2")
    with acting_as(YOU):
        os.unlink(union / b"t/yours")


@root_only
def test_setgid_directories_give_their_group(union: Mounted) -> None:
    union.mount({b"g": directory(0o2777, gid=GROUP)})
    with acting_as(ME):
        write(union / b"g/file", b"")
        os.mkdir(union / b"g/dir")
        os.mkdir(union / b"g/dir/deep")
        os.symlink(b"x", union / b"g/link")
        os.mkfifo(union / b"g/fifo")
        os.close(os.open(union / b"g/sgid", os.O_CREAT | os.O_WRONLY, 0o2775))
    names = (b"file", b"dir", b"dir/deep", b"link", b"fifo")
    assert [os.lstat(union / b"g/" + name).st_gid for name in names] == [GROUP] * 5
    assert mode_of(union / b"g/dir") & mode_of(union / b"g/dir/deep") & stat.S_ISGID
    assert not mode_of(union / b"g/file") & stat.S_ISGID
    assert not mode_of(union / b"g/sgid") & stat.S_ISGID  # not a member: CVE-2018-13405
    assert os.lstat(union / b"g/file").st_uid == ME


@root_only
@pytest.mark.parametrize("mode", [0o6777, 0o4755, 0o2755, 0o2745])
def test_writing_clears_setuid_and_setgid(union: Mounted, mode: int) -> None:
    union.mount({name: file(b"lower", mode | 0o022, uid=YOU) for name in (b"low", b"trunc", b"open", b"map")})
    expected = (mode | 0o022) & ~0o6000
    for name in (b"up",):
        write(union / name, b"upper")
        os.chmod(union / name, mode | 0o022)
    with acting_as(ME):
        append(union / b"low", b"+")
        append(union / b"up", b"+")
        os.truncate(union / b"trunc", 2)
        with opened(union / b"open", os.O_WRONLY | os.O_TRUNC):
            pass
    assert [oct(mode_of(union / name)) for name in (b"low", b"up", b"trunc", b"open")] == [oct(expected)] * 4
    assert mode_of(union / b"map") == mode | 0o022


def _direct(path: bytes) -> None:
    page = mmap.mmap(-1, 4096)
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd:
        os.write(fd, page)
    page.close()


def _copied(path: bytes) -> None:
    with opened(b"/proc/self/exe", os.O_RDONLY) as source, opened(path, os.O_WRONLY) as fd:
        os.sendfile(fd, source, 0, 9)


def _allocated(path: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.posix_fallocate(fd, 0, 9999)


def _set_acl(path: bytes) -> None:
    value = acl((1, 7, NOBODY), (2, 6, 1), (4, 7, NOBODY), (16, 7, NOBODY), (32, 7, NOBODY))
    os.setxattr(path, "system.posix_acl_access", value)


TAKES_BITS: dict[bytes, Callable[[bytes], object]] = {
    b"write": lambda path: append(path, b"+"),
    b"direct": _direct,
    b"copied": _copied,
    b"allocated": _allocated,
    b"shorter": lambda path: os.truncate(path, 2),
    b"longer": lambda path: os.truncate(path, 9000),
    b"chgrp": lambda path: os.chown(path, -1, ME),
    b"chmod": lambda path: os.chmod(path, 0o2767),
    b"acl": _set_acl,
    b"xattr": lambda path: os.setxattr(path, "user.x", b"1"),
    b"times": os.utime,
}


@root_only
@pytest.mark.parametrize("groups", [(), (YOU,)], ids=["outsider", "member"])
def test_what_takes_setuid_and_setgid_is_what_takes_it_elsewhere(union: Mounted, groups: tuple[int, ...]) -> None:
    """xfstests generic/355 and 375: an outsider's ACL and writes to a file without group execution left setgid."""
    modes = (0o6777, 0o6766, 0o2775, 0o4755)
    names = {b"%s-%o" % (kind, mode): (kind, mode) for kind in TAKES_BITS for mode in modes}
    layer = {name: file(b"data", mode, uid=ME, gid=YOU) for name, (_, mode) in names.items()}
    union.mount(layer)
    build(union.base + b"/plain", layer, Marks.KERNEL, "trusted.overlay.")
    found = []
    for place in (union.root, union.base + b"/plain"):
        with acting_as(ME, groups=groups):
            for name, (kind, _) in names.items():
                TAKES_BITS[kind](os.path.join(place, name))
        found.append({name: oct(mode_of(os.path.join(place, name))) for name in names})
    assert {name: (mode, found[0][name]) for name, mode in found[1].items() if mode != found[0][name]} == {}


@root_only
def test_root_writing_keeps_setuid(union: Mounted) -> None:
    union.mount({b"f": file(b"1", 0o4755)})
    append(union / b"f", b"+")
    assert mode_of(union / b"f") == 0o4755


@root_only
def test_chown_clears_setuid_and_setgid_of_files_only(union: Mounted) -> None:
    union.mount({b"f": file(b"", 0o6755, uid=ME), b"n": file(b"", 0o2644, uid=ME), b"d": directory(0o6755, uid=ME)})
    for name in (b"f", b"n", b"d"):
        with acting_as(ME, groups=[GROUP]):
            os.chown(union / name, -1, GROUP)
    assert [oct(mode_of(union / name)) for name in (b"f", b"n", b"d")] == ["0o755", "0o644", "0o6755"]
    os.chmod(union / b"f", 0o4755)
    os.chown(union / b"f", YOU, YOU)
    assert mode_of(union / b"f") == 0o755


@root_only
def test_who_may_change_what(union: Mounted) -> None:
    people = {b"f": file(b"1", 0o644, uid=YOU), b"mine": file(b"", 0o644, uid=ME)}
    union.mount({**people, b"ro/x": file(), b"no": directory(0o700)})
    f, mine = union / b"f", union / b"mine"
    with acting_as(ME):
        assert error_of(os.chmod, f, 0o777) == error_of(os.chown, f, ME, ME) == errno.EPERM
        assert error_of(os.utime, f, (1, 1)) == errno.EPERM and error_of(os.utime, f) == errno.EACCES
        assert error_of(os.open, f, os.O_WRONLY) == error_of(os.truncate, f, 0) == errno.EACCES
        assert error_of(os.setxattr, f, "user.x", b"") == errno.EACCES
        assert error_of(os.chown, mine, YOU, -1) == error_of(os.chown, mine, -1, GROUP) == errno.EPERM
        assert error_of(os.mkdir, union / b"ro/new") == error_of(os.unlink, union / b"ro/x") == errno.EACCES
        assert error_of(os.rename, union / b"ro/x", union / b"y") == errno.EACCES
        assert error_of(os.listdir, union / b"no") == error_of(os.stat, union / b"no/x") == errno.EACCES
        assert error_of(os.link, mine, union / b"ro/l") == errno.EACCES
        assert error_of(os.mknod, union / b"c", stat.S_IFCHR, os.makedev(1, 3)) in (errno.EPERM, errno.EACCES)
        os.chmod(mine, 0o600)
        os.utime(mine, (1, 1))
    assert os.listdir(union.upper) == [b"mine"]  # what was refused copied nothing up


@root_only
def test_chmod_by_a_stranger_to_the_group_drops_setgid(union: Mounted) -> None:
    union.mount({b"f": file(b"", 0o644, uid=ME, gid=GROUP)})
    with acting_as(ME):
        os.chmod(union / b"f", 0o2755)
    assert mode_of(union / b"f") == 0o755
    with acting_as(ME, groups=[GROUP]):
        os.chmod(union / b"f", 0o2755)
    assert mode_of(union / b"f") == 0o2755


def test_umask_is_the_callers(union: Mounted) -> None:
    union.mount({b"d": directory(0o777)})
    for mask, file_mode, dir_mode in [(0, 0o666, 0o777), (0o027, 0o640, 0o750), (0o777, 0, 0)]:
        with umask(mask):
            os.close(os.open(union / b"d/f%o" % mask, os.O_CREAT | os.O_WRONLY, 0o666))
            os.mkdir(union / b"d/d%o" % mask, 0o777)
            os.mkfifo(union / b"d/p%o" % mask, 0o666)
        assert mode_of(union / b"d/f%o" % mask) == mode_of(union / b"d/p%o" % mask) == file_mode
        assert mode_of(union / b"d/d%o" % mask) == dir_mode


DEFAULT = acl((1, 7, NOBODY), (2, 6, YOU), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 0, NOBODY))


def test_default_acls_are_inherited_and_outrank_umask(union: Mounted) -> None:
    union.mount({b"d": directory(0o755, xattrs=(("system.posix_acl_default", DEFAULT),))})
    with umask(0o077):
        os.close(os.open(union / b"d/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(union / b"d/sub", 0o777)
        os.mkfifo(union / b"d/fifo", 0o666)
        os.symlink(b"x", union / b"d/l")
    union.remount()
    assert mode_of(union / b"d/f") == mode_of(union / b"d/fifo") == 0o660
    assert mode_of(union / b"d/sub") == 0o770
    assert os.getxattr(union / b"d/sub", "system.posix_acl_default") == DEFAULT
    inherited = acl((1, 6, NOBODY), (2, 6, YOU), (4, 5, NOBODY), (0x10, 6, NOBODY), (0x20, 0, NOBODY))
    assert os.getxattr(union / b"d/f", "system.posix_acl_access") == inherited
    assert error_of(os.getxattr, union / b"d/f", "system.posix_acl_default") == errno.ENODATA


@root_only
def test_acls_are_enforced(union: Mounted) -> None:
    only_you = acl((1, 6, NOBODY), (2, 4, YOU), (4, 0, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY))
    not_you = acl((1, 6, NOBODY), (2, 0, YOU), (4, 4, NOBODY), (0x10, 7, NOBODY), (0x20, 4, NOBODY))
    union.mount({b"a": file(b"a", 0o640, xattrs=(("system.posix_acl_access", only_you),)), b"b": file(b"b", 0o644)})
    os.setxattr(union / b"b", "system.posix_acl_access", not_you)
    for _ in range(2):
        with acting_as(YOU):
            assert read(union / b"a") == b"a" and error_of(os.open, union / b"b", os.O_RDONLY) == errno.EACCES
            assert error_of(os.open, union / b"a", os.O_WRONLY) == errno.EACCES
        with acting_as(ME):
            assert read(union / b"b") == b"b" and error_of(os.open, union / b"a", os.O_RDONLY) == errno.EACCES
        os.utime(union / b"a")  # copied up: the same rules
    os.chmod(union / b"a", 0o600)  # chmod sets the mask
    with acting_as(YOU):
        assert error_of(os.open, union / b"a", os.O_RDONLY) == errno.EACCES


def test_an_acl_sets_the_mode_and_chmod_sets_the_mask(union: Mounted) -> None:
    union.mount({b"f": file(b"", 0o644)})
    value = acl((1, 7, NOBODY), (2, 6, YOU), (4, 1, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY))
    os.setxattr(union / b"f", "system.posix_acl_access", value)
    assert mode_of(union / b"f") == 0o764
    os.chmod(union / b"f", 0o700)
    assert struct.unpack_from("<HHI", os.getxattr(union / b"f", "system.posix_acl_access"), 4 + 3 * 8)[:2] == (0x10, 0)
    os.removexattr(union / b"f", "system.posix_acl_access")
    assert "system.posix_acl_access" not in os.listxattr(union / b"f")


@root_only
def test_file_capabilities_are_dropped_on_write(union: Mounted) -> None:
    capable = (("security.capability", CAPABILITY),)
    union.mount({b"f": file(b"1", 0o777, xattrs=capable), b"kept": file(b"1", 0o777, xattrs=capable)})
    os.chmod(union / b"kept", 0o755)
    assert os.getxattr(union / b"kept", "security.capability") == CAPABILITY  # copied up with it
    append(union / b"kept", b"+")
    with acting_as(ME):
        append(union / b"f", b"+")
    for name in (b"f", b"kept"):
        assert error_of(os.getxattr, union / name, "security.capability") == errno.ENODATA
    os.setxattr(union / b"f", "security.capability", CAPABILITY)
    os.chown(union / b"f", ME, ME)
    assert error_of(os.getxattr, union / b"f", "security.capability") == errno.ENODATA


@root_only
def test_setuid_programs_run_as_their_owner(union: Mounted) -> None:
    with open("/usr/bin/id", "rb") as program:
        union.mount({b"id": file(program.read(), 0o4755, uid=YOU)})
    with acting_as(ME):
        shown = os.popen(f"{os.fsdecode(union / b'id')} -u").read()
    assert shown.strip() == str(YOU)


@root_only
def test_modes_that_shut_the_owner_out(union: Mounted) -> None:
    union.mount({b"d": directory(0o300), b"d/f": file(b"f", 0o200), b"empty": directory(0o000)})
    append(union / b"d/f", b"+")
    os.rename(union / b"empty", union / b"moved")
    union.remount()
    assert mode_of(union / b"moved") == 0 and mode_of(union / b"d") == 0o300 and mode_of(union / b"d/f") == 0o200
    assert os.stat(union / b"d/f").st_size == 2
