"""Point 6: a directory that is open while it is changed, moved, copied up or removed."""

import errno
import os
from contextlib import ExitStack

import pytest

from tests.oracle.trees import file
from tests.semantics.mounted import Mounted, append, error_of, opened, write
from tests.semantics.test_names import stream

NAMES = [b"n%03d" % index for index in range(600)]  # more than one READDIRPLUS holds
DIRECTORIES = 300


def build(union: Mounted, options: str = "") -> None:
    """Mount a merged directory of two layers."""
    half = len(NAMES) // 2
    union.mount(
        {b"d/" + name: file() for name in NAMES[:half]} | {b"other/x": file()},
        {b"d/" + name: file() for name in NAMES[half:]},
        options=options,
    )


def test_a_directory_that_is_removed_while_it_is_open_lists_nothing(union: Mounted) -> None:
    union.mount({b"d/sub/x": file()})
    with opened(union / b"d/sub", os.O_RDONLY) as fd, opened(union / b"d/sub", os.O_RDONLY) as other:
        assert os.listdir(fd) == ["x"]
        os.unlink(union / b"d/sub/x")
        os.rmdir(union / b"d/sub")
        os.mkdir(union / b"d/sub")
        write(union / b"d/sub/new", b"")
        for each in (fd, other):
            os.lseek(each, 0, os.SEEK_SET)
            assert os.listdir(each) == []
            assert error_of(os.open, b"new", os.O_RDONLY, dir_fd=each) == errno.ENOENT
            assert os.fstat(each).st_nlink == 0
            os.fsync(each)
            again = os.open(b".", os.O_RDONLY, dir_fd=each)
            assert os.listdir(again) == []
            os.close(again)
    assert union.names(b"d/sub") == [b"new"]


@pytest.mark.parametrize("options", ["", "redirect_dir=on"])
@pytest.mark.parametrize("begins", [0, 3])
def test_a_directory_that_is_moved_while_it_is_read_is_read_to_its_end(
    union: Mounted, options: str, begins: int
) -> None:
    """It is copied up with that, and becomes opaque, or a redirect."""
    build(union, options)
    with stream(union / b"d") as listing:
        seen = [listing.read() for _ in range(begins)]
        cookie = listing.tell()
        os.rename(union / b"d", union / b"other/moved")
        os.unlink(union / b"other/moved/n599")
        write(union / b"other/moved/new", b"")
        seen += listing.rest()
        assert sorted(filter(None, set(seen) - {b".", b"..", b"new", b"n599"})) == NAMES[:-1]
        assert len(seen) == len(set(seen))
        listing.seek(cookie)
        following = list(listing.rest())
        assert following == [name for name in seen[begins:] if name in following]
        assert len(following) >= len(NAMES) - begins
        listing.rewind()
        assert sorted(listing.rest()) == sorted([b".", b"..", b"new", *NAMES[:-1]])


def test_a_directory_is_copied_up_while_it_is_read(union: Mounted) -> None:
    """Positions, numbers and types stay."""
    build(union)
    before = {entry.name: (entry.inode(), entry.is_file()) for entry in os.scandir(union / b"d")}
    with stream(union / b"d") as listing, opened(union / b"d", os.O_RDONLY) as fd:
        seen = [listing.read() for _ in range(100)]
        os.fchmod(fd, 0o700)
        append(union / b"d/n000", b"more")
        append(union / b"d/n400", b"more")
        os.setxattr(fd, b"user.word", b"value")
        os.fsync(fd)
        seen += listing.rest()
    assert sorted(filter(None, seen)) == sorted([b".", b"..", *NAMES])
    assert {entry.name: (entry.inode(), entry.is_file()) for entry in os.scandir(union / b"d")} == before


def test_who_renames_what_it_reads_comes_to_an_end(union: Mounted) -> None:
    build(union)
    for turn in range(2):
        with stream(union / b"d") as listing:
            for count, name in enumerate(listing.rest()):
                assert count <= 2 * len(NAMES) + 2
                if name is not None and name not in (b".", b".."):
                    os.rename(union / b"d/" + name, union / b"d/r%d-" % turn + name)
    assert union.names(b"d") == [b"r1-r0-" + name for name in NAMES]


def test_readers_of_one_directory_do_not_disturb_each_other(union: Mounted) -> None:
    """Each name that was there all the time is given to each of them once."""
    build(union)
    with ExitStack() as streams:
        readers = [streams.enter_context(stream(union / b"d")) for _ in range(4)]
        seen: list[list[bytes | None]] = [[] for _ in readers]
        for turn in range(0, len(NAMES), 20):
            for place, reader in enumerate(readers):
                seen[place] += [reader.read() for _ in range(5 * place + 10)]
            write(union / b"d/new%d" % turn, b"")
            os.unlink(union / b"d/" + NAMES[turn])
        for place, reader in enumerate(readers):
            seen[place] += reader.rest()
            found = [name for name in seen[place] if name is not None]
            stayed = [name for index, name in enumerate(NAMES) if index % 20]
            assert sorted(set(found) & set(stayed)) == stayed
            assert len(found) == len(set(found))
        readers[0].rewind()
        assert sorted(readers[0].rest()) == sorted([b".", b"..", *os.listdir(union / b"d")])


def test_many_open_directories_are_read_and_synced_in_any_order(union: Mounted) -> None:
    union.mount({b"d%03d/x" % number: file() for number in range(DIRECTORIES)})
    with ExitStack() as held:
        fds = [held.enter_context(opened(union / b"d%03d" % number, os.O_RDONLY)) for number in range(DIRECTORIES)]
        for number, fd in reversed(list(enumerate(fds))):
            write(union / b"d%03d/new%d" % (number, number), b"")
            assert sorted(os.listdir(fd)) == sorted(["x", f"new{number}"])
            os.fsync(fd)


def test_a_directory_is_synced_that_nobody_has_listed(union: Mounted) -> None:
    union.mount({b"d/x": file()})
    write(union / b"d/new", b"")
    union.remount()
    with opened(union / b"d", os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fchmod(fd, 0o700)
        os.fsync(fd)
        assert sorted(os.listdir(fd)) == ["new", "x"]


@pytest.mark.parametrize("union", ["rootless", "rootless-lane"], indirect=True)
def test_whoever_may_not_read_a_directory_may_not_open_it(union: Mounted) -> None:
    union.mount({b"d/x": file()})
    os.chmod(union / b"d", 0o300)
    assert error_of(os.open, union / b"d", os.O_RDONLY) == errno.EACCES
    assert error_of(os.listdir, union / b"d") == errno.EACCES
    assert os.stat(union / b"d/x").st_size == 0
    os.chmod(union / b"d", 0o700)
    assert union.names(b"d") == [b"x"]
