"""Files without a name, birth times and inode flags; as kernel overlayfs has them on these layers."""

import ctypes
import errno
import fcntl
import os
import struct
import subprocess

import pytest

from tests.oracle.trees import directory, file
from tests.semantics.mounted import Mounted, acting_as, opened, read, root_only
from tests.waiting import wait_until

GETFLAGS, SETFLAGS, FSGETXATTR = 0x80086601, 0x40086602, 0x801C581F
NODUMP, NOATIME, IMMUTABLE, APPEND = 0x40, 0x80, 0x10, 0x20
_libc = ctypes.CDLL(None, use_errno=True)


def give_name(fd: int, path: bytes) -> None:
    """link(2) an open file, by its descriptor."""
    if _libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, path, 0x400):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def flags_of(path: bytes) -> int:
    with opened(path, os.O_RDONLY) as fd:
        return int(struct.unpack("=I", fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])[0])


def set_flags(path: bytes, flags: int) -> None:
    with opened(path, os.O_RDONLY) as fd:
        fcntl.ioctl(fd, SETFLAGS, struct.pack("=Q", flags))


def birth(path: bytes) -> str:
    done = subprocess.run(["stat", "-c", "%w", path], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_file_without_a_name_is_used_and_goes(union: Mounted) -> None:
    union.mount({b"d": directory(), b"d/low": file(b"x")})
    with opened(union / b"d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        os.write(fd, b"content" * 1000)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 5000)
        st = os.fstat(fd)
        assert (st.st_nlink, st.st_mode & 0o7777, st.st_size, st.st_uid) == (0, 0o600, 5000, os.getuid())
        assert os.pread(fd, 7, 7) == b"content"
        assert union.names(b"d") == [b"low"]
    assert union.names(b"d") == [b"low"]
    wait_until(lambda: not os.listdir(union.work + b"/work"), "the end of the name that kept it")


def test_a_file_without_a_name_gets_names(union: Mounted) -> None:
    union.mount({b"d": directory(), b"d/low": file(b"x"), b"gone": file(b"y")})
    os.unlink(union / b"gone")
    with opened(union / b"d", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        os.write(fd, b"content" * 1000)
        number = os.fstat(fd).st_ino
        give_name(fd, union / b"d/new")
        with pytest.raises(FileExistsError):
            give_name(fd, union / b"d/low")
        give_name(fd, union / b"gone")
        assert os.fstat(fd).st_nlink == 2
        os.pwrite(fd, b"CONTENT", 0)
        os.unlink(union / b"d/new")
        assert os.fstat(fd).st_nlink == 1
    union.remount()
    st = os.stat(union / b"gone")
    assert (st.st_ino, st.st_nlink, st.st_mode & 0o7777) == (number, 1, 0o640)
    assert read(union / b"gone") == b"CONTENT" + b"content" * 999
    assert union.names(b"d") == [b"low"]
    wait_until(lambda: not os.listdir(union.work + b"/work"), "the end of the name that kept it")


def test_a_file_that_may_get_no_name_gets_none(union: Mounted) -> None:
    union.mount({})
    with opened(union.root, os.O_TMPFILE | os.O_RDWR | os.O_EXCL) as fd:
        with pytest.raises(FileNotFoundError):
            give_name(fd, union / b"f")
        os.write(fd, b"x")
    with opened(union / b"f", os.O_RDWR | os.O_CREAT) as fd:
        os.unlink(union / b"f")
        with pytest.raises(FileNotFoundError):
            give_name(fd, union / b"f")


@root_only
def test_a_file_without_a_name_belongs_to_its_maker_and_to_the_group_of_a_setgid_directory(union: Mounted) -> None:
    union.mount({b"d": directory(0o2777, gid=7), b"e": directory(0o777)})
    os.umask(0o027)
    with acting_as(1000):
        for name, gid in ((b"d", 7), (b"e", 1000)):
            with opened(union / name, os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
                st = os.fstat(fd)
                assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1000, gid, 0o640), name
                give_name(fd, union / name + b"/f")
    union.remount()
    assert [os.stat(union / each).st_gid for each in (b"d/f", b"e/f")] == [7, 1000]


def test_there_is_none_in_a_mount_without_an_upper(union: Mounted) -> None:
    union.mount({b"f": file(b"x")}, upper=False)
    with pytest.raises(OSError) as caught:
        os.open(union.root, os.O_TMPFILE | os.O_RDWR)
    assert caught.value.errno == errno.EROFS


def test_the_time_of_birth_is_that_of_the_object_below(union: Mounted) -> None:
    union.mount({b"f": file(b"x"), b"d": directory(), b"d/g": file(b"y")})
    for name in (b"f", b"d", b"."):
        below = union.lowers[0] + b"/" + name if name != b"." else union.upper
        assert birth(union / name) == birth(below)
    with opened(union / b"f", os.O_RDWR) as fd:
        os.pwrite(fd, b"z", 0)
        os.unlink(union / b"f")
    union.remount()
    assert birth(union / b"d/g") != "-"


def test_flags_are_read_and_set_on_the_copy(union: Mounted) -> None:
    union.mount({b"f": file(b"x" * 300_000), b"d": directory()})
    for name in (b"f", b"d"):
        before = flags_of(union / name)
        assert before == flags_of(union.lowers[0] + b"/" + name)
        set_flags(union / name, before | NODUMP | NOATIME)
        assert flags_of(union / name) == before | NODUMP | NOATIME
        assert flags_of(union.lowers[0] + b"/" + name) == before
        for flag in (IMMUTABLE, APPEND):
            with pytest.raises(OSError) as caught:
                set_flags(union / name, before | flag)
            assert caught.value.errno in (errno.EOPNOTSUPP, errno.EPERM)  # EPERM without CAP_LINUX_IMMUTABLE
    assert read(union / b"f") == b"x" * 300_000
    union.remount()
    assert flags_of(union / b"f") & NOATIME


def test_flags_of_a_lower_file_are_copied_up(union: Mounted) -> None:
    union.build({b"f": file(b"x"), b"g": file(b"x")})
    set_flags(union.lowers[0] + b"/f", flags_of(union.lowers[0] + b"/f") | NOATIME)
    union.mount()
    for name in (b"f", b"g"):
        os.chmod(union / name, 0o600)
    assert flags_of(union / b"f") & NOATIME
    assert not flags_of(union / b"g") & NOATIME


def test_programs_that_ask_for_flags_and_extents_are_answered_or_refused(union: Mounted) -> None:
    union.mount({b"f": file(b"x" * 5000)})
    assert subprocess.run(["lsattr", union / b"f"], check=False, capture_output=True).returncode == 0
    assert subprocess.run(["chattr", "+A", union / b"f"], check=False, capture_output=True).returncode == 0
    assert subprocess.run(["chattr", "+i", union / b"f"], check=False, capture_output=True).returncode == 1
    with opened(union / b"f", os.O_RDONLY) as fd:
        for command, code in ((0x5678, errno.ENOTTY), (0xC020660B, errno.EOPNOTSUPP), (0x40049409, errno.EOPNOTSUPP)):
            with pytest.raises(OSError) as caught:
                fcntl.ioctl(fd, command, bytearray(64) if command != 0x40049409 else fd)
            assert caught.value.errno in (code, errno.EBADF, errno.EINVAL), hex(command)
        assert len(fcntl.ioctl(fd, FSGETXATTR, bytes(28))) == 28


def test_a_name_is_not_exchanged_for_a_whiteout(union: Mounted) -> None:
    union.mount({b"f": file(b"x")})
    assert _libc.renameat2(-100, union / b"f", -100, union / b"g", 4) == -1
    assert ctypes.get_errno() == errno.EINVAL
