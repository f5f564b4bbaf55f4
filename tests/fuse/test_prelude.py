"""What is answered without trio and pyfuse3: a real mount whose server imports when the test wants, or never."""

import errno
import fcntl
import os
import select
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from layerfs.fuse.config import ServeConfig
from layerfs.fuse.prelude import ByHand
from layerfs.sys.mounts import unmount
from layerfs.union.inodes import Directory, Node
from layerfs.union.state import Attributes
from tests.fuse.slow import NAMES, Slow, abort, running
from tests.host import require
from tests.oracle.trees import directory, file, symlink
from tests.union.box import Box
from tests.waiting import PATIENCE, wait_until


def test_a_look_is_answered_before_the_import_ends(slow: Slow) -> None:
    place = slow.target
    assert sorted(os.listdir(place)) == ["d", "link", "low", "many", "top"]
    assert sorted(os.listdir(place / "many")) == [f"{number:03}" for number in range(NAMES)]
    assert {entry.name: entry.is_dir() for entry in os.scandir(place / "d")} == {"e": False}
    st, lower = os.lstat(place / "low"), os.lstat(place.parent / "l2/low")
    assert (st.st_size, st.st_mode, st.st_mtime_ns) == (lower.st_size, lower.st_mode, lower.st_mtime_ns)
    assert os.readlink(place / "link") == "low"
    assert os.getxattr(place / "low", "user.word") == b"value"
    assert os.statvfs(place).f_namemax == 255
    for name, expected in (("absent", errno.ENOENT), ("x" * 256, errno.ENAMETOOLONG), ("low/below", errno.ENOTDIR)):
        with pytest.raises(OSError) as failure:
            os.lstat(place / name)
        assert failure.value.errno == expected
    assert slow.end() == 0


def test_what_a_short_mount_does_needs_no_import(never: Slow) -> None:
    place, upper = never.target, never.target.parent / "upper"
    (place / "new").write_bytes(b"written")
    assert (place / "new").read_text() == "written"  # text: Python asks whether it is a terminal
    with open(place / "low", "ab") as file:
        file.write(b" and more")
        waits = select.poll()  # as a Go program does with each file
        waits.register(file, select.POLLOUT)
        assert waits.poll(0)
    os.mkdir(place / "dir", 0o700)
    os.symlink("to", place / "dir/s")
    os.link(place / "new", place / "dir/hard")
    os.mkfifo(place / "dir/fifo")
    os.rename(place / "dir/s", place / "dir/t")
    os.chmod(place / "new", 0o640)
    os.truncate(place / "new", 4)
    os.utime(place / "new", ns=(5, 7))
    os.setxattr(place / "new", "user.word", b"value", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        os.setxattr(place / "new", "user.word", b"again", os.XATTR_CREATE)
    with pytest.raises(OSError):
        os.setxattr(place / "new", "user.absent", b"", os.XATTR_REPLACE)
    assert os.listxattr(place / "new") == ["user.word"]
    os.removexattr(place / "new", "user.word")
    os.unlink(place / "top")
    with pytest.raises(OSError):
        os.rmdir(place / "dir")
    os.unlink(place / "dir/fifo")
    assert sorted(os.listdir(place)) == ["d", "dir", "link", "low", "many", "new"]
    unmount(os.fsencode(place))
    assert os.waitstatus_to_exitcode(os.waitpid(never.pid, 0)[1]) == 0  # it waited for no import
    st = os.stat(upper / "new")
    assert (stat.S_IMODE(st.st_mode), st.st_size, st.st_mtime_ns, st.st_nlink) == (0o640, 4, 7, 2)
    assert (upper / "low").read_bytes() == b"two and more"
    assert os.readlink(upper / "dir/t") == "to"


def test_holes_and_ranges_need_no_import(never: Slow) -> None:
    """cp(1) and Python's shutil ask for them first of all."""
    place, upper = never.target, never.target.parent / "upper"
    with open(place / "low", "rb") as low, open(place / "copied", "w+b", 0) as copied:
        assert [os.lseek(low.fileno(), 0, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE)] == [0, 3]
        with pytest.raises(OSError) as failure:
            os.lseek(low.fileno(), 3, os.SEEK_DATA)
        assert failure.value.errno == errno.ENXIO
        assert os.copy_file_range(low.fileno(), copied.fileno(), 100, 1) == 2
        os.posix_fallocate(copied.fileno(), 0, 1 << 20)
        assert os.pread(copied.fileno(), 5, 0) == b"wo" + bytes(3)
    subprocess.run(["cp", "--sparse=always", place / "copied", place / "sparse"], check=True, timeout=PATIENCE)
    assert (place / "sparse").read_bytes() == b"wo" + bytes((1 << 20) - 2)
    unmount(os.fsencode(place))
    assert os.waitstatus_to_exitcode(os.waitpid(never.pid, 0)[1]) == 0
    assert (upper / "copied").read_bytes() == (upper / "sparse").read_bytes() == b"wo" + bytes((1 << 20) - 2)
    assert (upper / "copied").stat().st_blocks * 512 >= 1 << 20


def test_what_the_kernel_holds_dirty_is_looked_for_by_the_session(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before data are looked for it has to write back, and asks us: nobody else is answered meanwhile."""
    require("fuse")
    config = ServeConfig(b"", lane=True)  # which reads such requests even where pyfuse3 was imported before
    mount = Slow(Box(scratch, {}), scratch / "m", scratch / "imported", monkeypatch, begins="needed", config=config)
    with running(mount):
        with open(mount.target / "new", "w+b", 0) as new:
            new.truncate(1 << 20)
            new.seek(1 << 19)
            new.write(b"data")
            mount.imported()
            assert os.lseek(new.fileno(), 0, os.SEEK_DATA) == 1 << 19
        assert mount.end() == 0


def test_what_is_open_goes_over_to_the_session(never: Slow) -> None:
    place = never.target
    with (
        open(place / "new", "w+b", 0) as new,
        open(place / "low", "r+b", 0) as low,
        open(place / "top", "rb", 0) as top,
    ):
        new.write(b"one")
        low.write(b"T")
        os.unlink(place / "top")
        os.rename(place / "new", place / "d/new")
        fcntl.flock(new, fcntl.LOCK_EX)
        never.enter_session("low")
        new.write(b", two")
        low.write(b"W")
        assert (os.pread(new.fileno(), 99, 0), os.pread(low.fileno(), 99, 0)) == (b"one, two", b"TWo")
        assert (top.read(), os.fstat(top.fileno()).st_nlink) == (b"1", 0)
        assert os.path.samestat(os.fstat(new.fileno()), os.stat(place / "d/new"))
        os.fsync(new.fileno())
    assert (place / "low").read_bytes() == b"TWo"
    assert never.end() == 0


def test_a_request_that_takes_long_is_for_the_session(never: Slow) -> None:
    child = syncing(never.target / "new")
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    never.imported()
    assert os.waitpid(child, 0)[1] == 0
    assert (never.target / "new").read_bytes() == b"written"
    assert never.end() == 0


def syncing(path: Path) -> int:
    """Start a client whose request is for the session."""
    child = os.fork()
    if child == 0:
        try:
            with open(path, "wb", 0) as file:
                file.write(b"written")
                os.fsync(file.fileno())
            os._exit(0)
        finally:
            os._exit(1)
    return child


def seeking(path: Path) -> int:
    """Start a client whose request only libfuse's reader sets aside: the kernel holds dirty what it is about."""
    child = os.fork()
    if child == 0:
        try:
            with open(path, "w+b", 0) as file:
                size = file.write(b"written")
                os._exit(int(os.lseek(file.fileno(), 0, os.SEEK_HOLE) != size))
        finally:
            os._exit(2)
    return child


@pytest.mark.parametrize("lane", [False, True], ids=["nolane", "lane"])
def test_others_are_answered_while_requests_wait_for_the_session(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: bool
) -> None:
    """One fsync had everybody wait until the session was imported: 80 to 120 ms."""
    require("fuse")
    names = {b"d/%03d" % number: file(b"") for number in range(NAMES)}
    box, imported = Box(scratch, {b"d": directory(), b"low": file(b"data")} | names), scratch / "imported"
    config = ServeConfig(b"", lane=lane)
    with running(Slow(box, scratch / "m", imported, monkeypatch, begins="needed", config=config)) as mount:
        clients = []
        for number in range(3):
            clients += [syncing(mount.target / f"new{number}"), seeking(mount.target / f"hole{number}")]
        for number in range(100):
            assert not (mount.target / f"d/absent{number}").exists()
            assert len(os.listdir(mount.target / "d")) == NAMES
        assert [os.waitpid(client, os.WNOHANG) for client in clients] == [(0, 0)] * len(clients)
        mount.imported()
        assert [os.waitpid(client, 0)[1] for client in clients] == [0] * len(clients)
        assert {(mount.target / f"new{number}").read_bytes() for number in range(3)} == {b"written"}
        assert mount.end() == 0


@pytest.mark.parametrize("config", [ServeConfig(b"", sync=True), ServeConfig(b"", dirsync=True)])
def test_a_change_that_waits_for_the_disk_is_for_the_session(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, config: ServeConfig
) -> None:
    require("fuse")
    box, imported = Box(scratch, {b"d": directory()}), scratch / "imported"
    with running(Slow(box, scratch / "m", imported, monkeypatch, begins="needed", config=config)) as mount:
        child = os.fork()
        if child == 0:
            os.mkdir(mount.target / "d/new")
            os._exit(0)
        assert os.listdir(mount.target) == ["d"]
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        mount.imported()
        assert os.waitpid(child, 0)[1] == 0
        assert mount.end() == 0


def test_a_mount_that_is_left_answers_what_waits_for_the_session(never: Slow) -> None:
    """A client in an fsync, the import that goes on and on, and a signal: the fsync is done, and then all ends."""
    client = syncing(never.target / "new")
    wait_until(lambda: (never.target.parent / "upper/new").exists())
    os.kill(never.pid, signal.SIGTERM)
    assert os.waitpid(client, 0)[1] == 0
    never.imported()
    assert os.waitstatus_to_exitcode(os.waitpid(never.pid, 0)[1]) == 0
    assert (never.target.parent / "upper/new").read_bytes() == b"written"
    assert not os.path.ismount(never.target)


@pytest.mark.parametrize("end", ["kill", "unmount", "abort"])
def test_an_end_while_requests_wait_for_the_session_is_an_error_and_no_hang(never: Slow, end: str) -> None:
    clients = [syncing(never.target / name) for name in ("a", "b")]
    wait_until(lambda: (never.target.parent / "upper/b").exists() and (never.target.parent / "upper/a").exists())
    device = os.minor(os.stat(never.target).st_dev)
    if end == "kill":
        os.kill(never.pid, signal.SIGKILL)
    elif end == "unmount":
        unmount(os.fsencode(never.target), lazy=True)
    else:
        abort(device)
    if end == "unmount":  # it goes on for those who are in it
        never.imported()
    assert [os.waitpid(client, 0)[1] != 0 for client in clients] == [end != "unmount"] * len(clients)
    never.imported()
    os.waitpid(never.pid, 0)


def test_a_directory_that_was_opened_before_is_read_on_after(slow: Slow) -> None:
    with os.scandir(slow.target / "many") as entries:
        first = [next(entries).name for _ in range(3)]
        slow.enter_session("low")
        (slow.target / "new").touch()
        assert sorted(first + [entry.name for entry in entries]) == [f"{number:03}" for number in range(NAMES)]
    assert slow.end() == 0


def test_a_name_that_cannot_be_looked_at_is_listed(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad name made the whole directory unreadable, and what was listed before it was never forgotten."""
    require("fuse")
    monkeypatch.setenv("LAYERFS_LANE", "0")  # it would not ask the union
    box = Box(scratch, {b"good": file(b""), b"bad": file(b"")})
    look = box.union.lookup_in

    def lookup(parent: Directory, name: bytes) -> tuple[Node, Attributes]:
        if name == b"bad":
            raise OSError(errno.EIO, "damaged")
        return look(parent, name)

    monkeypatch.setattr(box.union, "lookup_in", lookup)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        assert sorted(os.listdir(mount.target)) == ["bad", "good"]
        with pytest.raises(OSError) as failure:
            os.lstat(mount.target / "bad")
        assert failure.value.errno == errno.EIO
        assert mount.end() == 0


@pytest.mark.parametrize(
    "bad", ["x" * 4096, "x" * 70_000, ZeroDivisionError(), MemoryError(), OSError(524, "ENOTSUPP")]
)
def test_whatever_goes_wrong_is_an_error_of_that_request(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, bad: object
) -> None:
    """A symlink of 4,096 bytes in a layer ended the server, if it was met in the first 100 ms."""
    require("fuse")
    monkeypatch.setenv("LAYERFS_LANE", "0")
    box = Box(scratch, {b"link": symlink(b"to"), b"file": file(b"data")})

    def readlink(_: int) -> bytes:
        if isinstance(bad, Exception):
            raise bad
        return str(bad).encode()

    monkeypatch.setattr(box.union, "readlink", readlink)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        for imported in (False, True):
            with pytest.raises(OSError) as failure:
                os.readlink(mount.target / "link")
            assert failure.value.errno in (errno.ENAMETOOLONG, errno.EIO, errno.ENOMEM)
            assert os.listdir(mount.target)
            if not imported:
                mount.enter_session("file")
        assert mount.end() == 0


def test_a_mount_that_is_looked_at_imports_nothing(never: Slow) -> None:
    """With a lane the session was imported at once, which cost each mount 90 ms of a processor."""
    place = never.target
    for _ in range(2):
        assert [os.lstat(place / "many" / name).st_size for name in os.listdir(place / "many")] == [0] * NAMES
        assert (place / "low").read_bytes() == b"two"
        assert not (place / "absent").exists()
    unmount(os.fsencode(place))
    assert os.waitstatus_to_exitcode(os.waitpid(never.pid, 0)[1]) == 0  # it waited for no import


def test_without_trios_epoll_the_union_answers_again_for_all(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    require("fuse")
    box = Box(scratch, {b"a": file(b"1"), b"b": file(b"two"), b"c": file(b"3")})
    monkeypatch.setenv("LAYERFS_TEST_NO_EPOLL", "1")
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins="needed")) as mount:
        with open(mount.target / "b", "rb", 0) as held, open(mount.target / "c", "rb", 0):
            assert os.listdir(mount.target) and held.read(1) == b"t"
            os.unlink(mount.target / "c")
            mount.enter_session("a")
            assert held.read() == b"wo"
            assert [os.lstat(mount.target / name).st_size for name in "ab"] == [1, 3]
        assert mount.end() == 0


@pytest.mark.parametrize("lane", ["lane"], indirect=True)
def test_what_is_written_is_answered_where_the_lane_has_it(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    """Each message was copied twice, 256 MiB in 310 ms of processor time; and it counted as work of the prelude's."""
    require("fuse")
    box, write_now, good = Box(scratch, {b"low": file(b"two")}), ByHand.write_now, os.urandom(1 << 20)

    async def write(*_: object) -> int:
        raise ZeroDivisionError

    def write_or_fail(self: ByHand, fh: int, off: int, data: memoryview) -> int:
        if bytes(data[:3]) == b"bad":
            raise OSError(errno.ENOSPC, "full")
        return write_now(self, fh, off, data)

    monkeypatch.setattr(ByHand, "write", write)
    monkeypatch.setattr(ByHand, "write_now", write_or_fail)
    with running(Slow(box, scratch / "m", scratch / "imported", monkeypatch, begins="needed")) as mount:
        fd = os.open(mount.target / "new", os.O_CREAT | os.O_WRONLY, 0o644)  # the first change, which no lane makes
        other = os.dup(fd)
        assert os.write(fd, good) == len(good)
        os.close(fd)  # writes back
        assert (scratch / "upper/new").read_bytes() == good
        os.pwrite(other, b"bad", 4096)
        with pytest.raises(OSError) as failure:
            os.close(other)
        assert failure.value.errno == errno.ENOSPC
        assert sorted(os.listdir(mount.target)) == ["low", "new"]
        assert mount.end() == 0
    assert (scratch / "upper/new").read_bytes() == good
