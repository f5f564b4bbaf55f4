"""Files that the kernel opens by itself: mounts without an upper, whose lane answers OPEN with ENOSYS."""

import errno
import mmap
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerfs.fuse.config import ServeConfig
from layerfs.fuse.implicit import ImplicitOpens
from layerfs.pysquashfs import write_tree
from tests.fuse.slow import Slow, running
from tests.fuse.test_storm import DROP, Storm, content, descriptors, forget, server_of
from tests.host import BIN, require
from tests.oracle.trees import directory, file
from tests.union.box import Box
from tests.waiting import PATIENCE, wait_until

LARGE = bytes(range(256)) * 4000
FILES = 40
MANY = 20
READ_ONLY = ServeConfig(b"", read_only=True)


@pytest.fixture
def mount(scratch: Path, monkeypatch: pytest.MonkeyPatch, lane: str) -> Iterator[Slow]:
    """A mount without an upper, in its prelude until the session is asked for."""
    require("root", "fuse")
    tree = {b"d": directory(), b"d/small": file(b"content"), b"large": file(LARGE), b"empty": file(b"")}
    tree |= {b"many": directory()} | {b"many/%d" % number: file(LARGE) for number in range(MANY)}
    box = Box(scratch, tree, {b"below": file(b"two")}, writable=False)
    (scratch / "l1/twin").hardlink_to(scratch / "l1/d/small")  # of several names: not the lane's
    place = scratch / "m", scratch / "imported"
    with running(Slow(box, *place, monkeypatch, begins="needed", config=READ_ONLY)) as slow:
        yield slow


def test_what_is_open_is_read_from_here_and_closed_when_it_was_read_whole(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"1"), b"g": file(b"2")}, writable=False) as box, box.node(b"f") as f:
        with box.node(b"g") as g:
            opens = ImplicitOpens(box.union, limit=1)
            assert opens.open(f.ino) and not opens.open(f.ino)
            assert opens.open(g.ino) and f.ino not in opens and g.ino in opens
            assert os.pread(box.union.data_handle(g.ino), 9, 0) == b"2"  # type: ignore[arg-type]
            assert opens.close(g.ino) and not opens.close(g.ino)
            assert len(opens) == len(box.ov.files) == 0


def test_a_file_that_cannot_be_opened_is_not_open(scratch: Path) -> None:
    with Box(scratch, {b"f": file(b"1")}, writable=False) as box, box.node(b"f") as f:
        os.unlink(os.path.join(box.layer(1), b"f"))
        opens = ImplicitOpens(box.union)
        with pytest.raises(FileNotFoundError):
            opens.open(f.ino)
        assert f.ino not in opens


@pytest.mark.parametrize("session", [False, True])
def test_every_way_to_read_gives_what_the_layers_hold(mount: Slow, session: bool) -> None:
    if session:
        mount.enter_session("large")
    for name, data in ((b"d/small", b"content"), (b"twin", b"content"), (b"below", b"two"), (b"empty", b"")):
        path = mount.target / os.fsdecode(name)
        assert path.read_bytes() == data
        with open(path, "rb") as opened:
            os.fsync(opened.fileno())
            assert opened.read(3) + opened.read() == data
    with open(mount.target / "large", "rb") as large:
        assert os.pread(large.fileno(), 100, 500_000) == LARGE[500_000:500_100]
        with mmap.mmap(large.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == LARGE
    direct = os.open(mount.target / "large", os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, 8192) as room, open(direct, "rb", buffering=0) as unbuffered:
        assert unbuffered.readinto(room) == 8192 and room[:] == LARGE[:8192]
    if session:
        with open(mount.target / "large", "rb") as large:
            assert os.lseek(large.fileno(), 5, os.SEEK_DATA) == 5
            assert os.lseek(large.fileno(), 5, os.SEEK_HOLE) == len(LARGE)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(OSError) as refused:
            os.open(mount.target / "large", flags)
        assert refused.value.errno == errno.EROFS
    assert mount.end() == 0


def test_a_mount_that_root_makes_writable_refuses_what_cannot_be_written(mount: Slow) -> None:
    (mount.target / "below").read_bytes()
    subprocess.run(["mount", "-i", "-o", "remount,rw", mount.target], check=True)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(OSError) as refused:
            opened = os.open(mount.target / "large", flags)
            try:
                os.write(opened, b"x")
            finally:
                os.close(opened)
        assert refused.value.errno == errno.EROFS
    assert (mount.target / "large").read_bytes() == LARGE


@pytest.mark.parametrize("lane", ["lane"], indirect=True)
def test_what_is_in_the_page_cache_is_opened_and_read_without_the_server(mount: Slow) -> None:
    names = [mount.target / name for name in ("d/small", "twin", "large")]
    names[0].read_bytes()  # the kernel learns from the first one that nobody answers a FLUSH
    with ExitStack() as held:  # in the cache, also while another test drops caches
        for name in names:
            opened = held.enter_context(open(name, "rb"))
            mapped = held.enter_context(mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))
            assert mapped[:]
        client = subprocess.Popen(["sh", "-c", 'read go; cat "$@"', "sh", *names], stdin=-1, stdout=-1)
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            shown, _ = client.communicate(b"go\n", timeout=PATIENCE / 4)
        finally:
            os.kill(mount.pid, signal.SIGCONT)
            client.communicate()
    assert shown == b"content" * 2 + LARGE


def test_a_file_that_was_exchanged_below_is_found_anew(mount: Slow) -> None:
    """The layers may not change; if they do, no read gives bytes of the one for the other."""
    path, below = mount.target / "below", mount.target.parent / "l2"
    path.stat()
    (below / "new").write_bytes(b"TWO and more")
    (below / "new").rename(below / "below")
    try:
        found = path.read_bytes()
    except OSError as error:  # where the kernel had opened it before anybody looked
        assert error.errno in (errno.ESTALE, errno.EIO)
        found = path.read_bytes()
    assert found == b"TWO and more"


@pytest.mark.parametrize("session", [False, True])
def test_files_that_were_read_in_part_are_closed_when_they_are_forgotten(mount: Slow, session: bool) -> None:
    names = [f"many/{number}" for number in range(MANY)]
    if session:
        mount.enter_session("large")
    before = descriptors(mount.pid)
    for name in names:
        with open(mount.target / name, "rb", buffering=0) as part:
            assert part.read(10) == LARGE[:10]
    DROP.write_text("3")
    wait_until(lambda: descriptors(mount.pid) <= before + MANY // 2)  # directories of the layers stay open


def test_a_storm_of_readers_beside_a_kernel_that_forgets(scratch: Path, lane: str) -> None:
    """Of files of the host and of an image: nobody reads another file's bytes, and no descriptor is left."""
    require("root", "fuse")
    for place in ("image/i", "lower/d", "mnt"):
        (scratch / place).mkdir(parents=True)
    names = [f"d/f{number}" for number in range(FILES)] + [f"i/g{number}" for number in range(FILES)]
    dice = random.Random(2)
    wanted = {name: content(name) * dice.choice((1, 1, 200, 2000)) for name in names}
    for name, data in wanted.items():
        (scratch / ("image" if name.startswith("i") else "lower") / name).write_bytes(data)
    write_tree(scratch / "image", scratch / "image.squashfs")
    options = f"lowerdir={scratch}/lower:{scratch}/image.squashfs"
    subprocess.run([BIN / "layerfs", "mount", "--driver=fuse", "-o", options, scratch / "mnt"], check=True)

    def read(turn: int, luck: random.Random) -> None:
        name = luck.choice(names)
        with open(scratch / "mnt" / name, "rb") as opened:
            start = luck.randrange(len(wanted[name]))
            assert os.pread(opened.fileno(), 5000, start) == wanted[name][start : start + 5000]
            assert opened.read() == wanted[name]

    def kill(turn: int) -> None:
        client = subprocess.Popen(["sh", "-c", "while :; do cat d/* i/* >/dev/null; done"], cwd=scratch / "mnt")
        wait_until(lambda: client.poll() is None)
        client.kill()
        client.wait()

    try:
        pid = server_of(scratch / "mnt")
        for name in names:
            assert (scratch / "mnt" / name).read_bytes() == wanted[name]
        DROP.write_text("3")
        before = descriptors(pid)
        storm = Storm()
        storm.start(forget)
        storm.start(kill)
        for seed in range(3):
            luck = random.Random(seed)
            storm.start(lambda turn, luck=luck: read(turn, luck))  # type: ignore[misc]
        storm.finish()
        DROP.write_text("3")
        wait_until(lambda: descriptors(pid) <= before + 8)  # directories of the layers stay open
    finally:
        subprocess.run([BIN / "layerfs", "umount", scratch / "mnt"], check=False)
