"""FUSE over io_uring, where this kernel has it: switched on for a moment, for each mount that a test makes."""

import ctypes
import errno
import fcntl
import mmap
import os
import random
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from layerfs.fuse import handshake, serve
from layerfs.fuse.handshake import Negotiated, Wanted
from tests.fuse.slow import Slow, abort, running
from tests.fuse.test_storm import server_of
from tests.host import BIN, require
from tests.oracle.trees import Layer, directory, file
from tests.semantics.mounted import Mounted
from tests.union.box import Box
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.alone  # the switch is the whole host's

SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
LARGE = random.Random(0).randbytes(3 << 20)
FILES = 300
LAYERS: tuple[Layer, ...] = (
    {b"d": directory(), b"d/top": file(b"top"), b"gone": file(b"g")},
    {b"d": directory(), b"d/low": file(b"low" * 9), b"large": file(LARGE), b"many": directory()}
    | {b"many/f%03d" % number: file(b"%d" % number) for number in range(FILES)},
)


@contextmanager
def switched(on: bool = True) -> Iterator[None]:
    """New mounts of servers that want it use io_uring, or do not; mounts that there are do not notice.

    The switch is the host's: another suite that has it is waited for.
    """
    with SWITCH.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = SWITCH.read_text()
        SWITCH.write_text("Y" if on else "N")
        try:
            yield
        finally:
            SWITCH.write_text(before)


@pytest.fixture(autouse=True)
def _capable() -> None:
    require("root", "fuse")
    if not SWITCH.exists():
        pytest.skip("this kernel has no FUSE over io_uring")
    if not Path("/proc/self/fdinfo").exists() or Path("/proc/sys/kernel/io_uring_disabled").read_text() == "2\n":
        pytest.skip("this host has no io_uring")


def mounted(base: Path, *, options: str = "", upper: bool = True, ring: bool = True) -> Mounted:
    stack = Mounted(base, natively=True)
    with switched(ring):
        stack.mount(*LAYERS, options=options, upper=upper)
        os.stat(stack.root)
    return stack


def requests_on_ring(pid: int) -> int:
    """How many things a server's ring is done with; -1 if it has none."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[io_uring]":
                return int(wait_until(lambda fd=fd: _done(pid, fd)))  # type: ignore[misc]
    return -1


def _done(pid: int, fd: str) -> str:
    """What the kernel says of a ring; nothing while that is in use (io_uring/fdinfo.c, `io_uring_show_fdinfo`)."""
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith("CqTail:")), "")


def pid_of(stack: Mounted) -> int:
    return server_of(Path(os.fsdecode(stack.root)))


@contextmanager
def ending(stack: Mounted) -> Iterator[int]:
    """Yield the server's process, and unmount."""
    pid = pid_of(stack)
    try:
        yield pid
    except BaseException:
        subprocess.run([BIN / "layerfs", "umount", stack.root], check=False)
        raise
    stack.unmount()


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def operate(root: bytes) -> list[object]:
    """Do a bit of everything; return what was seen."""
    seen: list[object] = []

    def at(name: bytes) -> bytes:
        return os.path.join(root, name)

    with open(at(b"new"), "w+b") as out:
        out.write(LARGE)
        out.flush()
        with mmap.mmap(out.fileno(), 0) as memory:
            memory[5] = 7
        out.truncate(len(LARGE) - 100)
        os.posix_fallocate(out.fileno(), 4 << 20, 4096)
        seen += [
            os.lseek(out.fileno(), 0, os.SEEK_DATA),
            os.copy_file_range(out.fileno(), out.fileno(), 500, 0, 9 << 20),
        ]
    with open(at(b"large"), "r+b") as copied:
        copied.seek(1 << 20)
        copied.write(b"changed")
    with open(at(b"d/low"), "ab") as low:
        low.write(b"more")
    os.rename(at(b"d/top"), at(b"renamed"))
    os.unlink(at(b"gone"))
    os.makedirs(at(b"x/y/z"))
    os.rename(at(b"x/y"), at(b"x/w"))
    os.rmdir(at(b"x/w/z"))
    os.symlink("d/low", at(b"link"))
    os.link(at(b"d/low"), at(b"second"))
    os.setxattr(at(b"new"), "user.long", b"v" * 3000)
    os.chmod(at(b"second"), 0o640)
    os.utime(at(b"x"), ns=(5, 10**18))
    for number in range(50):
        with open(at(b"x/%d" % number), "wb") as small:
            small.write(b"%d" % number)
    fd = os.open(root, os.O_TMPFILE | os.O_WRONLY)
    os.write(fd, b"no name")
    os.link(f"/proc/self/fd/{fd}", at(b"named"), src_dir_fd=fd, follow_symlinks=True)
    os.close(fd)
    for name in (b"nothing", b"d/nothing"):
        with pytest.raises(FileNotFoundError):
            os.stat(at(name))
    seen += [os.getxattr(at(b"new"), "user.long"), os.readlink(at(b"link")), sorted(os.listdir(at(b"many")))]
    seen += [Path(os.fsdecode(at(b"many/f%03d" % number))).read_bytes() for number in range(FILES)]
    return seen


def test_the_same_operations_give_the_same_trees(tmp_path: Path) -> None:
    found = []
    for place, ring in (("ring", True), ("device", False)):
        (tmp_path / place).mkdir()
        stack = mounted(tmp_path / place, ring=ring)
        with ending(stack) as pid:
            before = requests_on_ring(pid)
            seen = operate(stack.root)
            assert (requests_on_ring(pid) - before > FILES) is ring
            tree = stack.tree()
        stack.mount(options=stack.options)  # what is on disk
        with ending(stack):
            assert stack.tree().records == tree.records
        found.append((seen, tree.records))
    assert found[0] == found[1]


@pytest.mark.parametrize("begins", ["first", "needed"])
def test_a_mount_without_upper_reads_what_its_layers_have(
    tmp_path: Path, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERFS_SESSION", begins)
    stack = mounted(tmp_path, upper=False)
    with ending(stack) as pid:
        assert requests_on_ring(pid) >= 0
        assert Path(os.fsdecode(stack / b"large")).read_bytes() == LARGE
        for _ in range(3):
            assert stack.names(b"many") == [b"f%03d" % number for number in range(FILES)]
            for number in range(FILES):
                assert Path(os.fsdecode(stack / b"many/f%03d" % number)).read_bytes() == b"%d" % number
            Path("/proc/sys/vm/drop_caches").write_text("2")


def test_a_session_that_does_not_find_trios_epoll_serves_the_ring(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERFS_TEST_NO_EPOLL", "1")
    monkeypatch.setenv("LAYERFS_LANE", "1")
    box = Box(scratch, {b"top": file(b"1")}, {b"low": file(LARGE)})
    with switched(), running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        assert (mount.target / "top").read_bytes() == b"1"
        assert requests_on_ring(mount.pid) >= 0
        mount.enter_session("top")
        for number in range(200):
            (mount.target / f"f{number}").write_bytes(LARGE[:number])
        assert [(mount.target / f"f{number}").read_bytes() for number in range(200)] == [LARGE[:n] for n in range(200)]
        assert (mount.target / "low").read_bytes() == LARGE


def test_a_ring_that_is_switched_off_before_it_is_there_is_done_without(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE_INIT had offered it; the server ended with its first command, and whoever had mounted met a dead mount."""
    monkeypatch.setenv("LAYERFS_LANE", "1")
    answer = handshake.negotiate

    def late(device: int, wanted: Wanted) -> Negotiated:
        assert wanted.uring
        SWITCH.write_text("N")
        return answer(device, wanted)

    monkeypatch.setattr(serve, "negotiate", late)
    box = Box(scratch, {b"top": file(b"1")}, {b"low": file(LARGE)})
    with switched(), running(Slow(box, scratch / "m", scratch / "imported", monkeypatch)) as mount:
        assert (mount.target / "top").read_bytes() == b"1"
        assert requests_on_ring(mount.pid) == -1
        mount.enter_session("top")
        assert (mount.target / "low").read_bytes() == LARGE
        assert mount.end() == 0


def test_clients_that_are_killed_at_work_leave_a_mount_that_answers(tmp_path: Path) -> None:
    stack = mounted(tmp_path)
    work = "while :; do cat many/*; cat large; ls -lR .; echo x >>d/low; echo y >k; sync k; rm k; done"
    with ending(stack) as pid:
        for turn in range(25):
            client = subprocess.Popen(
                ["sh", "-c", work], cwd=stack.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            met = requests_on_ring(pid)
            wait_until(lambda met=met, turn=turn: requests_on_ring(pid) > met + turn * 7)  # type: ignore[misc]
            os.killpg(client.pid, signal.SIGKILL)
            client.wait()
            stack.forget()
        assert Path(os.fsdecode(stack / b"large")).read_bytes() == LARGE
        assert set(Path(os.fsdecode(stack / b"d/low")).read_bytes()[27:]) <= set(b"x\n")


def test_a_storm_of_forgets_passes_beside_the_ring(tmp_path: Path) -> None:
    stack = mounted(tmp_path)
    with ending(stack) as pid:
        os.listdir(stack / b"many")
        before = len(os.listdir(f"/proc/{pid}/fd"))
        for _ in range(10):
            for number in range(FILES):
                with open(stack / b"many/f%03d" % number, "rb") as held:
                    assert held.read() == b"%d" % number
            stack.forget()
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before + 8)


@pytest.mark.parametrize("end", ["kill", "abort"])
def test_when_the_server_or_the_connection_ends_clients_hear_of_it(tmp_path: Path, end: str) -> None:
    stack = mounted(tmp_path)
    pid = pid_of(stack)
    device = os.minor(os.stat(stack.root).st_dev)
    work = "while cat many/* large >/dev/null && ls -lR . >/dev/null; do :; done"
    clients = [
        subprocess.Popen(["sh", "-c", work], cwd=stack.root, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(3)
    ]
    met = requests_on_ring(pid)
    wait_until(lambda: requests_on_ring(pid) > met + 500)
    if end == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        abort(device)
    wait_until(lambda: is_over(pid), "the end of the server")
    for client in clients:
        client.wait(PATIENCE)
    if end == "kill":
        with pytest.raises(OSError) as raised:
            os.statvfs(stack.root)
        assert raised.value.errno == errno.ENOTCONN
        assert stack.attempt(["umount", os.fsdecode(stack.root)]).returncode == 0


def test_more_seeks_in_dirty_files_than_a_queue_holds_come_to_an_end(tmp_path: Path) -> None:
    stack = mounted(tmp_path)
    script = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "for turn in range(1, 9):\n"
        "    os.pwrite(fd, b'x' * 4096, turn << 20)\n"
        "    assert turn - 1 << 20 < os.lseek(fd, (turn << 20) - 4096, os.SEEK_DATA) <= turn << 20\n"
        "    assert os.lseek(fd, turn << 20, os.SEEK_HOLE) == (turn << 20) + 4096\n"
    )
    with ending(stack) as pid:
        clients = [
            subprocess.Popen(["python3", "-c", script, stack / b"s%d" % number], stderr=subprocess.PIPE)
            for number in range(40)
        ]
        said = [client.communicate(timeout=PATIENCE)[1] for client in clients]
        assert said == [b""] * 40
        assert requests_on_ring(pid) > 0


def forbid_io_uring() -> None:
    """Have io_uring_setup(2) fail in this process and its children, as a container's seccomp profile does."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x50000 | errno.EPERM), (0x06, 0, 0, 0x7FFF0000)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.parametrize("how", ["forbidden", "not wanted", "no lane", "off"])
def test_without_io_uring_the_device_serves(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Mounted(tmp_path, natively=how != "no lane")
    stack.build(*LAYERS)
    stack.with_upper = False
    os.makedirs(stack.root)
    prepare: Callable[[], None] | None = forbid_io_uring if how == "forbidden" else None
    environment = os.environ | {"LAYERFS_STANDBY": "no"} | ({"LAYERFS_URING": "0"} if how == "not wanted" else {})
    monkeypatch.delenv("LAYERFS_LANE", raising=False)
    with switched(how != "off"):
        command = [str(BIN / "layerfs"), *stack.command()]
        subprocess.run(command, check=True, env=environment, preexec_fn=prepare, timeout=PATIENCE)
        os.stat(stack.root)
    with ending(stack) as pid:
        assert requests_on_ring(pid) == -1
        assert Path(os.fsdecode(stack / b"large")).read_bytes() == LARGE
        assert stack.names(b"many") == [b"f%03d" % number for number in range(FILES)]
