"""What cannot be written is refused by name, and what fails half-way leaves nothing."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    Compressor,
    FileSpec,
    Image,
    SquashfsError,
    WriteOptions,
    entries_of,
    write_image,
    write_tree,
)
from tests.host import require
from tests.pysquashfs.write_facts import DIRECTORY, FILE, LINK, run

TREE = [FileSpec(b"d", DIRECTORY), FileSpec(b"f", FILE, data=b"1")]


@pytest.mark.parametrize(
    ("entry", "number", "words"),
    [
        (FileSpec(b"/d", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d//x", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d/", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"..", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d/../x", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d/./x", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d/x\0y", FILE), errno.EINVAL, "no path from the root"),
        (FileSpec(b"d", DIRECTORY), errno.EEXIST, "d: is there twice"),
        (FileSpec(b"f", FILE), errno.EEXIST, "f: is there twice"),
        (FileSpec(b"f/x", FILE), errno.ENOTDIR, "f/x: is below what is no directory"),
        (FileSpec(b"f/x/y", FILE), errno.ENOTDIR, "f/x/y: is below what is no directory"),
        (FileSpec(b"later/x", FILE), errno.ENOENT, "later/x: comes before the directory it is in"),
        (FileSpec(b"d/later/x", FILE), errno.ENOENT, "comes before the directory it is in"),
        (FileSpec(b"d/" + b"n" * 257, FILE), errno.ENAMETOOLONG, "257 bytes, 256 are possible"),
        (FileSpec(b"", FILE), errno.EINVAL, "the root: is one directory"),
        (FileSpec(b"", link=b"d"), errno.EINVAL, "the root: is one directory"),
        (FileSpec(b"l", link=b"later"), errno.ENOENT, "l: is a link to 'later', not there yet"),
        (FileSpec(b"l", link=b""), errno.ENOENT, "l: is a link to '', not there yet"),
        (FileSpec(b"l", link=b"d"), errno.EINVAL, "l: is a link to a directory"),
        (FileSpec(b"x"), errno.EINVAL, "x: has mode 0o0, which is no type of file"),
        (FileSpec(b"x", 0o644), errno.EINVAL, "x: has mode 0o644, which is no type of file"),
        (FileSpec(b"x", FILE | 1 << 20), errno.EINVAL, "which is no type of file"),
        (FileSpec(b"x", FILE, uid=-1), errno.EINVAL, "owner -1:0, not within 32 bits"),
        (FileSpec(b"x", FILE, gid=2**32), errno.EINVAL, "owner 0:4294967296, not within 32 bits"),
        (FileSpec(b"x", LINK), errno.EINVAL, "x: is a symlink to nothing"),
        (FileSpec(b"x", LINK, target=b"a\0b"), errno.EINVAL, "x: is a symlink to nothing"),
        (FileSpec(b"x", LINK, target=b"t" * 4097), errno.ENAMETOOLONG, "symlink to more than 4096 bytes"),
        (FileSpec(b"x", stat.S_IFCHR, rdev=os.makedev(4096, 0)), errno.EINVAL, "device number"),
        (FileSpec(b"x", FILE, xattrs={b"system.posix_acl_access": b""}), errno.EOPNOTSUPP, "system.posix_acl_access"),
        (FileSpec(b"x", FILE, xattrs={b"user.": b""}), errno.EINVAL, "bad name 'user.'"),
        (FileSpec(b"x", FILE, xattrs={b"user." + b"n" * 251: b""}), errno.EINVAL, "bad name"),
        (FileSpec(b"x", FILE, xattrs={b"user.x": bytes(65537)}), errno.E2BIG, "user.x of 65537 bytes"),
        (FileSpec(b"x", FILE, source=b"/nowhere/at/all"), errno.ENOENT, "/nowhere/at/all"),
        (FileSpec(b"x", FILE, source=b"/dev/null"), errno.EINVAL, "not a regular file: b'/dev/null'"),
        (FileSpec(b"x", FILE, source=b"/"), errno.EINVAL, "not a regular file: b'/'"),
    ],
)
def test_bad_entry_is_refused_by_name(entry: FileSpec, number: int, words: str, scratch: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_image(scratch / "image", [*TREE, entry])
    assert caught.value.errno == number
    assert words in str(caught.value)
    assert isinstance(caught.value, SquashfsError) is (entry.source is None)
    assert os.listdir(scratch) == []


def test_root_is_given_once(scratch: Path) -> None:
    with pytest.raises(SquashfsError, match="the root: is one directory"):
        write_image(scratch / "image", [FileSpec(b"", DIRECTORY), FileSpec(b"", DIRECTORY)])


@pytest.mark.parametrize(
    ("options", "number", "words"),
    [
        ({"compressor": Compressor.LZO}, errno.EOPNOTSUPP, "does not write lzo"),
        ({"compressor": Compressor.ZSTD, "level": 23}, errno.EINVAL, "zstd has levels 1 to 22, not 23"),
        ({"compressor": Compressor.GZIP, "level": 0}, errno.EINVAL, "gzip has levels 1 to 9, not 0"),
        ({"block_size": 5000}, errno.EINVAL, "5000 bytes: not a power of two from 4096 to 1048576"),
        ({"block_size": 2048}, errno.EINVAL, "2048 bytes"),
        ({"block_size": 2**21}, errno.EINVAL, "2097152 bytes"),
        ({"threads": 0}, errno.EINVAL, "0 threads"),
        ({"force_uid": -1}, errno.EINVAL, "force_uid -1 is not within 32 bits"),
        ({"mtime": 2**32}, errno.EINVAL, "mtime 4294967296 is not within 32 bits"),
    ],
)
def test_bad_option_is_refused(options: dict[str, int], number: int, words: str) -> None:
    with pytest.raises(SquashfsError, match=words) as caught:
        WriteOptions(**options)  # type: ignore[arg-type]
    assert caught.value.errno == number


@pytest.mark.parametrize("epoch", ["now", "-1", "4294967296", "1.5"])
def test_bad_source_date_epoch_is_refused(epoch: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(SquashfsError, match=f"SOURCE_DATE_EPOCH is '{epoch}'"):
        write_image(scratch / "image", TREE)
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_APPEND])
def test_descriptor_needs_to_be_open_for_both(flags: int, scratch: Path) -> None:
    (scratch / "file").write_bytes(b"old")
    fd = os.open(scratch / "file", flags)
    with pytest.raises(OSError, match="open for reading and writing, not appending"):
        write_image(fd, TREE)
    os.close(fd)
    assert (scratch / "file").read_bytes() == b"old"


def test_offset_needs_a_regular_file(scratch: Path) -> None:
    with pytest.raises(SquashfsError, match="an offset needs a descriptor"):
        write_image(scratch / "image", TREE, offset=4096)
    behind, before = os.pipe()
    with pytest.raises(OSError, match="to a regular file only"):
        write_image(before, TREE)
    os.close(behind)
    os.close(before)
    assert os.listdir(scratch) == []


def test_target_that_is_no_regular_file_stays(scratch: Path) -> None:
    os.mkfifo(scratch / "fifo")
    (scratch / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(OSError, match="not a regular file"):
            write_image(scratch / name, TREE)
    with pytest.raises(FileNotFoundError):
        write_image(scratch / "nowhere" / "image", TREE)
    assert sorted(os.listdir(scratch)) == ["directory", "fifo"]


class Stop(Exception):
    """Raised by a test in the middle of something."""


def endless(reason: BaseException, after: int = 40) -> Iterator[bytes]:
    """Content that fails when blocks are already with the threads."""
    for number in range(after):
        yield bytes([number]) * 100_000
    raise reason


@pytest.mark.parametrize("reason", [Stop(), KeyboardInterrupt(), OSError(errno.EIO, "of the source")], ids=repr)
@pytest.mark.parametrize("threads", [1, 4])
def test_what_an_iterator_raises_passes_and_leaves_nothing(reason: BaseException, threads: int, scratch: Path) -> None:
    (scratch / "image").write_bytes(b"old")
    tasks = set(os.listdir("/proc/self/task"))
    with pytest.raises(type(reason)) as caught:
        entries = [*TREE, FileSpec(b"x", FILE, data=endless(reason))]
        write_image(scratch / "image", entries, WriteOptions(block_size=4096, threads=threads))
    assert caught.value is reason
    assert os.listdir(scratch) == ["image"]
    assert (scratch / "image").read_bytes() == b"old"
    assert set(os.listdir("/proc/self/task")) <= tasks


def test_interrupt_ends_the_wait_for_the_last_blocks(scratch: Path) -> None:
    """All content is given, and ten seconds of compression left, when the signal comes."""
    size, given = 60 << 20, threading.Event()

    def interrupt() -> None:
        given.wait()
        os.kill(os.getpid(), signal.SIGINT)

    def watch(done: int) -> None:
        if done == size:
            given.set()

    killer = threading.Thread(target=interrupt)
    killer.start()
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    entry = FileSpec(b"x", FILE, data=(text * (size // len(text) + 1))[:size])
    options = WriteOptions(Compressor.XZ, level=9, block_size=1 << 20, threads=2)
    before = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        write_image(scratch / "image", [entry], options, on_progress=watch)
    assert time.process_time() - before < 6  # s of both CPUs; a block takes a fifth of one
    killer.join()
    assert os.listdir(scratch) == []


def test_what_progress_raises_passes_and_leaves_nothing(scratch: Path) -> None:
    def stop(done: int) -> None:
        if done >= 20:
            raise Stop

    with pytest.raises(Stop):
        write_image(scratch / "image", (FileSpec(b"%d" % n, FILE, data=b"12") for n in range(100)), on_progress=stop)
    assert os.listdir(scratch) == []


def test_progress_counts_the_bytes_of_content(scratch: Path) -> None:
    (scratch / "file").write_bytes(bytes(20_000_000))
    seen: list[int] = []
    entries = [*TREE, FileSpec(b"x", FILE, source=scratch / "file"), FileSpec(b"y", FILE, data=[b"ab", b"c"])]
    write_image(scratch / "image", entries, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1 + 20_000_000 + 3
    assert len(seen) > 4


def test_failure_cuts_a_descriptors_file_at_the_offset(scratch: Path) -> None:
    for before, after in ((10_000, 8192), (100, 100)):
        path = scratch / "package"
        path.write_bytes(b"#" * before)
        with open(path, "r+b") as file, pytest.raises(Stop):
            write_image(file.fileno(), [*TREE, FileSpec(b"x", FILE, data=endless(Stop()))], offset=8192)
        assert path.read_bytes() == b"#" * after


@pytest.mark.mounts
@pytest.mark.parametrize("named", [False, True], ids=["unnamed until complete", "named"])
def test_full_disk_leaves_nothing(named: bool, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    if named:  # as on a filesystem without O_TMPFILE
        monkeypatch.setattr("layerfs.pysquashfs.target.os.O_TMPFILE", os.O_DIRECTORY | os.O_EXCL)
    place = scratch / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    (place / "image").write_bytes(b"old")
    with pytest.raises(SquashfsError) as caught:
        write_image(place / "image", [FileSpec(b"x", FILE, data=os.urandom(3_000_000))])
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == f"{place}/image: data blocks: No space left on device"
    assert os.listdir(place) == ["image"]
    assert (place / "image").read_bytes() == b"old"
    assert os.statvfs(place).f_bfree * 4096 > 900_000


@pytest.mark.parametrize("after", [31_000_000, 29_000_000, 1_500_000, 0], ids=["longer", "shorter", "short", "empty"])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_file_that_changes_while_it_is_read_is_packed_and_told(scratch: Path, after: int, sparse: bool) -> None:
    """mksquashfs packs it; it was refused."""
    path, size = scratch / "file", 30_000_000
    path.write_bytes(b"0123456789" * 100_000 if sparse else b"0123456789" * (size // 10))
    os.truncate(path, size)
    before = path.read_bytes()
    told: list[tuple[bytes, str]] = []
    write_image(
        scratch / "image",
        [FileSpec(b"x", FILE, source=str(path)), FileSpec(b"y", FILE, data=b"y")],
        on_progress=lambda done: os.truncate(path, after),
        on_changed=lambda *what: told.append(what),
    )
    assert told == [(b"x", "changed while it was read")]
    with Image(scratch / "image") as image:
        inode = image.lookup(b"x")
        assert inode.size <= size
        assert image.read(inode.ref, 0, size) == before[: inode.size]
        assert image.read(image.lookup(b"y").ref, 0, 10) == b"y"


def test_a_file_that_is_another_one_when_its_turn_comes_is_packed_as_what_it_is(scratch: Path) -> None:
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"1")
    (tree / "other").write_bytes(b"other")
    entries = list(entries_of(tree))

    def packed() -> tuple[bytes, list[tuple[bytes, str]]]:
        told: list[tuple[bytes, str]] = []
        write_image(scratch / "image", entries, on_changed=lambda *what: told.append(what))
        with Image(scratch / "image") as image:
            return image.read(image.lookup(b"file").ref, 0, 100), told

    (tree / "file").write_bytes(b"22")
    assert packed() == (b"22", [(b"file", "changed while it was read")])
    (tree / "file").unlink()
    assert packed() == (b"", [(b"file", "was gone when it was to be read: it is empty")])
    (tree / "file").symlink_to("/etc/passwd")
    assert packed() == (b"", [(b"file", "was gone when it was to be read: it is empty")])
    (tree / "file").unlink()
    os.mkfifo(tree / "file")
    assert packed() == (b"", [(b"file", "was no file any more when it was to be read: it is empty")])


def test_what_vanishes_while_a_tree_is_looked_at_is_left_out_and_told(scratch: Path) -> None:
    tree = scratch / "tree"
    for name in "abcde":
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text(name)
    (tree / "f").symlink_to("a")
    told: list[tuple[bytes, str]] = []
    found = []
    for entry in entries_of(tree, on_changed=lambda *what: told.append(what)):
        found.append(entry.path)
        if entry.path == b"a":
            shutil.rmtree(tree / "b")
            shutil.rmtree(tree / "c")
            (tree / "c").symlink_to("/etc")
            (tree / "f").unlink()
    gone = "was gone when it was to be read: it is left out"
    assert [path for path, what in told if what == gone] == [b"b", b"c", b"f"]
    assert set(found) - {b"b", b"c"} == {b"", b"a", b"a/file", b"d", b"d/file", b"e", b"e/file"}


def test_killed_writer_leaves_nothing(scratch: Path) -> None:
    program = """if True:
        import sys
        from layerfs.pysquashfs import FileSpec, write_image
        def content():
            for number in range(40):
                yield bytes([number]) * 100_000
            print("half-way", flush=True)
            sys.stdin.read()
            yield b""
        write_image(sys.argv[1], [FileSpec(b"x", 0o100644, data=content())])
    """
    command = [sys.executable, "-c", program, str(scratch / "image")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half-way\n"
        writer.send_signal(signal.SIGKILL)
    assert os.listdir(scratch) == []


def test_image_takes_the_place_of_what_a_link_leads_to(scratch: Path) -> None:
    (scratch / "real").write_bytes(b"old")
    (scratch / "link").symlink_to("real")
    write_image(scratch / "link", TREE)
    assert os.readlink(scratch / "link") == "real"
    with Image(scratch / "real") as image:
        assert image.superblock.inode_count == 3
    assert sorted(os.listdir(scratch)) == ["link", "real"]


def test_image_has_the_mode_that_umask_gives(scratch: Path) -> None:
    before = os.umask(0o027)
    try:
        write_image(scratch / "image", TREE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((scratch / "image").stat().st_mode) == 0o640


def test_attributes_that_squashfs_cannot_hold_are_left_out_and_told(scratch: Path) -> None:
    require("setfacl")
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"")
    os.setxattr(tree / "file", "user.kept", b"1")
    run("setfacl", "-m", "u:1234:r", tree / "file")
    dropped: list[tuple[bytes, bytes]] = []
    write_tree(tree, scratch / "image", on_dropped=lambda path, name: dropped.append((path, name)))
    assert dropped == [(b"file", b"system.posix_acl_access")]
    with Image(scratch / "image") as image:
        ((_, inode),) = image.scan(image.root.ref)
        assert image.xattrs(inode.ref) == {b"user.kept": b"1"}


def test_more_owners_than_squashfs_has_room_for_are_refused(scratch: Path) -> None:
    entries = (FileSpec(b"%d" % number, stat.S_IFIFO, number) for number in range(65537))
    with pytest.raises(SquashfsError, match="more than the format can hold"):
        write_image(scratch / "image", entries)
    assert os.listdir(scratch) == []
