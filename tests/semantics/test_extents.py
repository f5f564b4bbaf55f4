"""Where the bytes of files lie: fallocate, holes, copies inside the mount; as kernel overlayfs has it."""

import errno
import mmap
import os
import random
import subprocess
import threading

import pytest

from tests.oracle.operations import allocate
from tests.oracle.trees import file
from tests.semantics.mounted import Mounted, acting_as, opened, read, root_only

PUNCH, KEEP, ZERO, COLLAPSE, INSERT, UNSHARE = 2, 1, 16, 8, 32, 64  # linux/falloc.h
HOLE = 1 << 20


def extents(fd: int) -> list[tuple[int, int]]:
    """Where an open file has data."""
    found: list[tuple[int, int]] = []
    offset = 0
    while True:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return found
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, offset))


def sparse(path: bytes) -> None:
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"data", HOLE)
        os.ftruncate(fd, 2 * HOLE)


def build_sparse(union: Mounted) -> None:
    """Mount a stack whose lower has `sparse`, data after a hole and before one."""
    union.build({b"f": file(b"x" * 5000)})
    sparse(union.lowers[0] + b"/sparse")
    union.mount()


def test_holes_of_lower_files_and_of_their_copies_are_found(union: Mounted) -> None:
    build_sparse(union)
    with opened(union / b"sparse", os.O_RDONLY) as fd:
        assert [start for start, _ in extents(fd)] == [HOLE]
        with opened(union / b"sparse", os.O_RDWR) as writer:
            os.pwrite(writer, b"more", 3 * HOLE)
        assert [start for start, _ in extents(fd)] == [HOLE, 3 * HOLE]
        for offset in (-1, 3 * HOLE + 4, 1 << 40):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with pytest.raises(OSError) as caught:
                    os.lseek(fd, offset, whence)
                assert caught.value.errno == errno.ENXIO


def test_data_that_the_kernel_has_not_written_back_are_no_hole(union: Mounted) -> None:
    """LSEEK comes without a flush: a file that was just written looked like one hole, and cp copied zeros."""
    union.mount({})
    with opened(union / b"f", os.O_RDWR | os.O_CREAT) as fd:
        for round_ in range(3):
            os.pwrite(fd, b"dirty", round_ * HOLE)
            assert [start for start, _ in extents(fd)] == [HOLE * each for each in range(round_ + 1)]
            assert os.lseek(fd, 0, os.SEEK_END) == round_ * HOLE + 5
        os.unlink(union / b"f")
        os.pwrite(fd, b"dirty", 3 * HOLE)
        assert len(extents(fd)) == 4


def test_space_is_reserved_zeroed_and_given_back(union: Mounted) -> None:
    union.mount({b"f": file(b"x" * 20_000)})
    with opened(union / b"f", os.O_RDWR) as fd:
        allocate(fd, 0, 0, 100_000)
        assert os.fstat(fd).st_size == 100_000
        assert os.fstat(fd).st_blocks * 512 >= 100_000
        allocate(fd, KEEP, 0, HOLE)
        assert os.fstat(fd).st_size == 100_000
        assert os.fstat(fd).st_blocks * 512 >= HOLE
        os.pwrite(fd, b"dirty", 4096)
        allocate(fd, PUNCH | KEEP, 4096, 8192)
        assert os.pread(fd, 20_000, 0) == b"x" * 4096 + bytes(8192) + b"x" * (20_000 - 4096 - 8192)
        assert next(end for _, end in extents(fd)) == 4096
    union.remount()
    assert read(union / b"f") == b"x" * 4096 + bytes(8192) + b"x" * (20_000 - 4096 - 8192) + bytes(80_000)


def test_a_dirty_file_that_is_reserved_keeps_what_was_written(union: Mounted) -> None:
    union.mount({})
    with opened(union / b"f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"dirty" * 10_000)
        allocate(fd, 0, 0, 60_000)
        os.pwrite(fd, b"end", 59_997)
        before = os.fstat(fd).st_mtime_ns
    assert read(union / b"f") == b"dirty" * 10_000 + bytes(9_997) + b"end"
    union.remount()
    assert read(union / b"f") == b"dirty" * 10_000 + bytes(9_997) + b"end"
    assert os.stat(union / b"f").st_mtime_ns == before


def test_fallocate_moves_mtime_and_that_stays(union: Mounted) -> None:
    union.mount({b"f": file(b"x" * 5000, mtime=10**18)})
    with opened(union / b"f", os.O_RDWR) as fd:
        allocate(fd, PUNCH | KEEP, 0, 4096)
        told = os.fstat(fd).st_mtime_ns
    assert told > 10**18
    union.remount()
    assert os.stat(union / b"f").st_mtime_ns == told


@pytest.mark.parametrize("mode", [PUNCH, COLLAPSE, INSERT, UNSHARE, KEEP | COLLAPSE, 1 << 20])
def test_what_cannot_be_allocated_is_unsupported_and_changes_nothing(union: Mounted, mode: int) -> None:
    union.mount({b"f": file(b"x" * 8192)})
    with opened(union / b"f", os.O_RDWR) as fd:
        with pytest.raises(OSError) as caught:
            allocate(fd, mode, 4096, 4096)
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.EINVAL)
        assert os.pread(fd, 9000, 0) == b"x" * 8192


@root_only
def test_more_than_there_is_room_for_is_enospc(union: Mounted) -> None:
    """On a filesystem of its own: ext4 takes all that is free before it says so."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", union.base], check=True)
    union.mount({})
    with opened(union / b"f", os.O_RDWR | os.O_CREAT) as fd:
        with pytest.raises(OSError) as caught:
            allocate(fd, 0, 0, 64 << 20)
        assert caught.value.errno == errno.ENOSPC
        os.pwrite(fd, b"data", 0)
    assert read(union / b"f") == b"data"
    union.unmount()
    subprocess.run(["umount", union.base], check=True)


@root_only
def test_setuid_goes_when_somebody_allocates_or_copies(union: Mounted) -> None:
    union.mount({b"a": file(b"x" * 5000, 0o6777), b"c": file(b"x" * 5000, 0o6777), b"source": file(b"y" * 5000)})
    with acting_as(1000):
        with opened(union / b"a", os.O_RDWR) as fd:
            allocate(fd, 0, 0, 9000)
        with opened(union / b"c", os.O_RDWR) as fd, opened(union / b"source", os.O_RDONLY) as source:
            assert os.copy_file_range(source, fd, 100, 0, 0) == 100
    assert [os.stat(union / name).st_mode & 0o7777 for name in (b"a", b"c")] == [0o777, 0o777]


def test_ranges_are_copied_from_lower_to_upper_files_and_within_one(union: Mounted) -> None:
    content = bytes(range(256)) * 4096
    union.mount({b"low": file(content)})
    with opened(union / b"low", os.O_RDONLY) as source, opened(union / b"new", os.O_RDWR | os.O_CREAT) as to:
        done = 0
        while count := os.copy_file_range(source, to, HOLE, done, done):
            done += count
        assert os.pread(to, HOLE + 1, 0) == content
        assert os.copy_file_range(source, to, 5000, 100, 333) == 5000
        assert os.copy_file_range(source, to, 5000, HOLE, HOLE) == 0
        assert os.copy_file_range(to, to, 4096, 0, 2 * HOLE) == 4096
        assert os.fstat(to).st_size == 2 * HOLE + 4096
        with pytest.raises(OSError) as caught:
            os.copy_file_range(to, to, 4096, 0, 100)
        assert caught.value.errno == errno.EINVAL
    expected = content[:333] + content[100:5100] + content[5333:]
    assert read(union / b"new") == expected + bytes(HOLE) + expected[:4096]
    union.remount()
    assert read(union / b"new") == expected + bytes(HOLE) + expected[:4096]


def test_what_is_dirty_is_copied_and_covered(union: Mounted) -> None:
    union.mount({})
    with opened(union / b"s", os.O_RDWR | os.O_CREAT) as source, opened(union / b"t", os.O_RDWR | os.O_CREAT) as to:
        os.write(source, b"hello" * 1000)
        os.write(to, b"z" * 20_000)
        assert os.copy_file_range(source, to, 5000, 0, 1000) == 5000
        assert os.pread(to, 20_000, 0) == b"z" * 1000 + b"hello" * 1000 + b"z" * 14_000
        told = os.fstat(to).st_mtime_ns
    union.remount()
    assert read(union / b"t") == b"z" * 1000 + b"hello" * 1000 + b"z" * 14_000
    assert os.stat(union / b"t").st_mtime_ns == told


def test_programs_find_holes_and_fall_back_where_there_is_nothing(union: Mounted) -> None:
    build_sparse(union)
    commands: list[list[str | bytes]] = [
        ["cp", "--sparse=auto", "--reflink=auto", b"sparse", b"copy1"],
        ["cp", "--sparse=always", b"sparse", b"copy2"],
        ["dd", "status=none", "conv=sparse", "bs=64k", b"if=sparse", b"of=copy3"],
        ["sh", "-c", "tar --sparse -cf t.tar sparse && mkdir out && tar -C out -xf t.tar && mv out/sparse copy4"],
        ["fallocate", "--dig-holes", b"copy1"],
        ["fallocate", "-l", "4m", b"f"],
    ]
    for words in commands:
        subprocess.run(words, cwd=union.root, check=True)
    expected = read(union / b"sparse")
    for name in (b"copy1", b"copy2", b"copy3", b"copy4"):
        assert read(union / name) == expected
        assert os.stat(union / name).st_blocks * 512 < HOLE // 2, name
    assert os.stat(union / b"f").st_size == 4 * HOLE


def test_others_are_answered_while_some_seek_copy_and_allocate(union: Mounted) -> None:
    union.mount({b"low": file(b"x" * 300_000)})
    failures: list[BaseException] = []

    def work(name: bytes) -> None:
        try:
            for round_ in range(10):
                with opened(union / name, os.O_RDWR | os.O_CREAT) as fd, opened(union / b"low", os.O_RDONLY) as low:
                    os.pwrite(fd, b"y" * 300_000, round_ * HOLE)
                    assert extents(fd)
                    assert os.copy_file_range(low, fd, 300_000, 0, 0) == 300_000
                    allocate(fd, PUNCH | KEEP, 0, 4096)
                    assert os.pread(fd, 5000, 0) == bytes(4096) + b"x" * 904
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(b"f%d" % each,)) for each in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class Model:
    """A file in memory, and what is done to it and to a file of the mount alike."""

    def __init__(self, path: bytes, seed: int) -> None:
        self.chance = random.Random(seed)
        self.data = bytearray(read(path))
        self.fd = os.open(path, os.O_RDWR)
        self.choices = [self.write, self.write, self.truncate, self.punch, self.zero, self.reserve, self.copy]
        self.choices += [self.map, self.seek]

    def step(self) -> None:
        self.chance.choice(self.choices)(self.chance.randrange(200_000), self.chance.randrange(1, 50_000))
        assert os.fstat(self.fd).st_size == len(self.data)
        assert os.pread(self.fd, 1 << 20, 0) == self.data

    def grow(self, size: int) -> None:
        self.data.extend(bytes(max(size - len(self.data), 0)))

    def put(self, offset: int, data: bytes) -> None:
        self.grow(offset + len(data))
        self.data[offset : offset + len(data)] = data

    def write(self, offset: int, length: int) -> None:
        data = self.chance.randbytes(length)
        os.pwrite(self.fd, data, offset)
        self.put(offset, data)

    def truncate(self, offset: int, _: int) -> None:
        os.ftruncate(self.fd, offset)
        self.grow(offset)
        del self.data[offset:]

    def punch(self, offset: int, length: int) -> None:
        allocate(self.fd, PUNCH | KEEP, offset, length)
        if offset < len(self.data):
            self.put(offset, bytes(min(length, len(self.data) - offset)))

    def zero(self, offset: int, length: int) -> None:
        try:
            allocate(self.fd, ZERO, offset, length)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP  # tmpfs has no ZERO_RANGE
        else:
            self.put(offset, bytes(length))

    def reserve(self, offset: int, length: int) -> None:
        allocate(self.fd, 0, offset, length)
        self.grow(offset + length)

    def copy(self, offset: int, length: int) -> None:
        length = min(length, max(len(self.data) - offset, 0))
        to, done = self.chance.randrange(offset + length, 260_000), 0
        data = bytes(self.data[offset : offset + length])
        while done < length:
            done += os.copy_file_range(self.fd, self.fd, length - done, offset + done, to + done)
        if data:
            self.put(to, data)

    def map(self, offset: int, length: int) -> None:
        if offset < len(self.data):
            with mmap.mmap(self.fd, len(self.data)) as mapped:
                data = self.chance.randbytes(min(length, len(self.data) - offset))
                mapped[offset : offset + len(data)] = data
                self.data[offset : offset + len(data)] = data

    def seek(self, offset: int, _: int) -> None:
        if offset < len(self.data):
            try:
                found = os.lseek(self.fd, offset, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                found = len(self.data)
            assert not any(self.data[offset:found])


def test_bytes_are_right_whatever_is_done_to_them(union: Mounted) -> None:
    union.mount({b"f": file(random.Random(0).randbytes(100_000))})
    model = Model(union / b"f", 1)
    for _ in range(300):
        model.step()
    os.close(model.fd)
    union.remount()
    assert read(union / b"f") == model.data
