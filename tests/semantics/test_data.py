"""Point 8 and times of point 10: mappings, appends, locks, holes, open files that lose their name, fsync, volatile."""

import errno
import fcntl
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.oracle.subjects import release
from tests.oracle.trees import directory, file
from tests.semantics.mounted import Mounted, append, error_of, opened, read, servers, write
from tests.waiting import PATIENCE, wait_until

_FORK = multiprocessing.get_context("fork")


def test_shared_mappings_and_writes_see_each_other(union: Mounted) -> None:
    union.mount({b"low": file(b"@20000")})
    write(union / b"up", b"@" * 20_000)
    for name in (b"low", b"up"):
        with opened(union / name, os.O_RDWR) as fd, mmap.mmap(fd, 20_000) as one, mmap.mmap(fd, 20_000) as two:
            one[5000:5006] = b"mapped"
            assert two[5000:5006] == os.pread(fd, 6, 5000) == b"mapped"
            os.pwrite(fd, b"written", 9000)
            assert one[9000:9007] == b"written"
            one.flush()
        assert read(union / name)[5000:5006] == b"mapped"
    union.remount()
    assert read(union / b"low")[5000:5006] == read(union / b"up")[5000:5006] == b"mapped"


def test_a_mapping_made_before_copy_up_goes_on(union: Mounted) -> None:
    union.mount({b"low": file(b"old" * 3000)})
    with opened(union / b"low", os.O_RDONLY) as reader, mmap.mmap(reader, 9000, prot=mmap.PROT_READ) as mapped:
        assert mapped[:3] == b"old"
        with opened(union / b"low", os.O_RDWR) as writer:
            os.pwrite(writer, b"new", 0)
            os.fsync(writer)
        assert mapped[:6] == b"newold" and os.pread(reader, 3, 0) == b"new"


STARTER = """
import os, sys
for number in range(300):
    os.write(os.open(f"{sys.argv[1]}/{number}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC), b"unsaved")
os.execv("/bin/true", ["true"])
"""


def test_a_program_takes_the_place_of_one_with_many_unsaved_files(union: Mounted) -> None:
    """execve(2) closes them, and the server has to save them while parts of /proc/PID cannot be read."""
    union.mount({})
    subprocess.run([sys.executable, "-S", "-c", STARTER, os.fsdecode(union.root)], timeout=PATIENCE, check=True)
    assert {read(union / b"%d" % number) for number in range(300)} == {b"unsaved"}


def test_a_mapped_write_moves_mtime(union: Mounted) -> None:
    union.mount({b"f": file(b"x" * 5000, mtime=10**18)})
    with opened(union / b"f", os.O_RDWR) as fd, mmap.mmap(fd, 5000) as mapped:
        mapped[10:11] = b"y"
        mapped.flush()
    assert time.time() - os.stat(union / b"f").st_mtime < 60
    union.remount()
    assert time.time() - os.stat(union / b"f").st_mtime < 60


def _append_lines(path: bytes, who: int) -> None:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        for line in range(200):
            os.write(fd, b"%d %03d\n" % (who, line))


def test_appends_of_several_writers_lose_nothing(union: Mounted) -> None:
    union.mount({b"log": file(b"begin\n")})
    writers = [_FORK.Process(target=_append_lines, args=(union / b"log", who)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = read(union / b"log").splitlines()
    assert lines[0] == b"begin"
    assert sorted(lines[1:]) == sorted(b"%d %03d" % (who, line) for who in range(4) for line in range(200))


def test_truncate_and_sparse_files(union: Mounted) -> None:
    union.mount({b"f": file(b"0123456789")})
    os.truncate(union / b"f", 4)
    os.truncate(union / b"f", 8)
    assert read(union / b"f") == b"0123\0\0\0\0"
    with opened(union / b"f", os.O_RDWR) as fd:
        os.pwrite(fd, b"end", 1 << 30)
        os.ftruncate(fd, (1 << 30) + 1)
        os.pwrite(fd, b"", 1 << 40)
    now = os.stat(union / b"f")
    assert now.st_size == (1 << 30) + 1
    union.remount()
    assert os.stat(union.upper + b"/f").st_blocks * 512 < 1 << 20
    with opened(union / b"f", os.O_RDONLY) as fd:
        assert os.pread(fd, 2, (1 << 30) - 1) == b"\0e" and os.pread(fd, 9, 1 << 31) == b""


def test_open_files_survive_unlink_rename_and_replacement(union: Mounted) -> None:
    union.mount({b"a": file(b"a"), b"b": file(b"b"), b"c": file(b"c"), b"d/x": file(b"x")})
    names = (b"a", b"b", b"c", b"d/x")
    fds = {name: os.open(union / name, os.O_RDWR) for name in names}
    os.unlink(union / b"a")
    os.rename(union / b"b", union / b"moved")
    write(union / b"new", b"new")
    os.rename(union / b"new", union / b"c")
    os.rename(union / b"d", union / b"e")
    os.unlink(union / b"e/x")
    os.rmdir(union / b"e")
    for name, fd in fds.items():
        os.pwrite(fd, b"+", 1)
        assert os.pread(fd, 9, 0) == name[-1:] + b"+"
        os.ftruncate(fd, 1)
        os.fsync(fd)
        os.close(fd)
    assert union.names() == [b"c", b"moved"] and read(union / b"c") == b"new" and read(union / b"moved") == b"b"


def test_removed_working_directories(union: Mounted) -> None:
    union.mount({b"d/e": directory()})
    os.chdir(union / b"d/e")
    os.rmdir(union / b"d/e")
    os.rmdir(union / b"d")
    assert os.listdir(b".") == [] and os.stat(b".").st_nlink in (0, 1, 2)
    assert error_of(os.mkdir, b"x") == error_of(os.open, b"x", os.O_CREAT | os.O_WRONLY) == errno.ENOENT
    os.chdir(b"/")


def test_locks(union: Mounted) -> None:
    union.mount({b"f": file(b"x")})
    with opened(union / b"f", os.O_RDWR) as one, opened(union / b"f", os.O_RDWR) as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert error_of(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EWOULDBLOCK
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(one, fcntl.LOCK_EX)

        def try_in_child() -> None:
            os._exit(error_of(fcntl.lockf, two, fcntl.LOCK_EX | fcntl.LOCK_NB))

        child = _FORK.Process(target=try_in_child)
        child.start()
        child.join()
        assert child.exitcode in (errno.EAGAIN, errno.EACCES)


@pytest.mark.parametrize("options", ["", "fsync=0", "volatile"])
def test_fsync_of_files_and_directories(union: Mounted, options: str) -> None:
    union.mount({b"low": file(b"x"), b"d/x": file()}, options=options)
    for name, flags in [(b"low", os.O_RDWR), (b"new", os.O_RDWR | os.O_CREAT), (b"low", os.O_RDONLY)]:
        with opened(union / name, flags) as fd:
            os.fsync(fd)
            os.fdatasync(fd)
    for name in (b"d", b""):
        with opened(union / name, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.fsync(fd)
            os.fdatasync(fd)
    os.sync()


def test_volatile_refuses_a_work_directory_of_a_crash(union: Mounted) -> None:
    """As kernel overlayfs: nobody knows what reached the disk (overlayfs.rst, "volatile mount")."""
    union.mount({b"f": file(b"x")}, options="volatile")
    append(union / b"f", b"+")
    union.remount()  # an orderly end is none
    append(union / b"f", b"+")
    for pid in servers(union):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not servers(union), "the server's end")
    if union.is_root:
        release(union.root)
    else:
        os.system(f"fusermount3 -u -z {os.fsdecode(union.root)}")
    done = union.attempt(union.command())
    assert done.returncode == 1 and "volatile" in done.stderr and "hint" in done.stderr, done.stderr
    union.options = ""
    assert union.attempt(union.command()).returncode == 1


@pytest.mark.parametrize("when", [-(10**18), -1, 0, 1, 2**31 * 10**9 + 5, 8 * 10**18 + 7], ids=str)
def test_times_before_1970_and_after_2038(union: Mounted, when: int) -> None:
    union.mount({b"low": file(b"x", mtime=when), b"d/x": file()})
    os.mknod(union / b"up")
    assert os.stat(union / b"low").st_mtime_ns == when
    os.chmod(union / b"low", 0o600)  # copied up
    for name in (b"up", b"d"):
        os.utime(union / name, ns=(when, when))
    for _ in range(2):
        assert [os.stat(union / name).st_mtime_ns for name in (b"low", b"up", b"d")] == [when] * 3
        union.remount()


def test_times_move_as_they_should(union: Mounted) -> None:
    old = 10**18
    union.mount({b"f": file(b"x", mtime=old), b"d": directory(mtime=old), b"d/x": file(b"", mtime=old)})
    os.chmod(union / b"f", 0o600)
    append(union / b"d/x", b"")
    assert [os.stat(union / name).st_mtime_ns for name in (b"f", b"d", b"d/x")] == [old] * 3
    append(union / b"f", b"+")
    os.mknod(union / b"d/new")
    assert all(os.stat(union / name).st_mtime_ns > 2 * 10**17 + old for name in (b"f", b"d"))
    os.utime(union / b"d", ns=(old, old))
    os.unlink(union / b"d/x")
    assert os.stat(union / b"d").st_mtime_ns > old


def test_the_mtime_that_was_shown_is_that_of_the_next_mount(union: Mounted) -> None:
    """Files that were made and written within one tick shifted by a millisecond: git, make and backups notice."""
    union.mount({b"low": file(b"low")})
    for index in range(60):
        write(union / b"%d" % index, b"x" * index)
    write(union / b"low", b"changed")
    os.utime(union / b"1", ns=(5, 7))
    names = sorted(union.names())
    shown = {name: os.stat(union / name).st_mtime_ns for name in names}
    union.remount()
    assert {name: os.stat(union / name).st_mtime_ns for name in names} == shown
