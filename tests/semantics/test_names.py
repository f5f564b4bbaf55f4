"""Point 6: any name, any depth, and directories of 100,000 entries that are listed while they change."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.oracle.operations import EXCHANGE, renameat2
from tests.oracle.trees import Layer, file, hardlink
from tests.semantics.mounted import Mounted, append, cpu_time, error_of, read, write

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.readdir.argtypes = _libc.closedir.argtypes = _libc.telldir.argtypes = _libc.rewinddir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_libc.telldir.restype = ctypes.c_long
_NAME = 19  # offset of d_name in struct dirent64


class Stream:
    """opendir(3) and what belongs to it."""

    def __init__(self, path: bytes) -> None:
        self._stream = _libc.opendir(path)
        assert self._stream

    def read(self) -> bytes | None:
        entry = _libc.readdir(self._stream)
        return ctypes.string_at(entry + _NAME) if entry else None

    def number_of(self, name: bytes) -> int:
        """Return the d_ino of a name that is still to come."""
        while entry := _libc.readdir(self._stream):
            if ctypes.string_at(entry + _NAME) == name:
                return ctypes.c_uint64.from_address(entry).value
        raise AssertionError(f"{name!r} is not listed")

    def tell(self) -> int:
        return int(_libc.telldir(self._stream))

    def seek(self, cookie: int) -> None:
        _libc.seekdir(self._stream, cookie)

    def rewind(self) -> None:
        _libc.rewinddir(self._stream)

    def rest(self) -> Iterator[bytes]:
        while (name := self.read()) is not None:
            yield name

    def close(self) -> None:
        _libc.closedir(self._stream)


@contextmanager
def stream(path: bytes) -> Iterator[Stream]:
    made = Stream(path)
    try:
        yield made
    finally:
        made.close()


ODD_NAMES = [b"\xff\xfe", b"new\nline", b"\t", b" ", b"-rf", b":", b",", b"a\\b", b"\x01", "é".encode(), b"...", b"wh."]


def test_names_of_any_bytes(union: Mounted) -> None:
    union.mount({name: file(name) for name in ODD_NAMES})
    for name in ODD_NAMES:
        assert read(union / name) == name
        write(union / (b"new" + name), name)
        os.rename(union / name, union / (b"moved" + name))
    expected = sorted([b"new" + name for name in ODD_NAMES] + [b"moved" + name for name in ODD_NAMES])
    assert union.names() == expected
    union.remount()
    assert union.names() == expected


def test_names_of_255_bytes(union: Mounted) -> None:
    """In a lower, made, renamed, linked, removed; 256 are too many, everywhere."""
    low, new, moved = b"l" * 255, b"n" * 255, b"m" * 255
    union.mount({low: file(b"1"), b"d/" + low: file(b"2"), b"d" * 255 + b"/x": file(b"3")})
    append(union / low, b"+")
    os.mkdir(union / new)
    os.rename(union / (b"d/" + low), union / (new + b"/" + moved))
    os.link(union / low, union / moved)
    os.unlink(union / low)
    os.rename(union / (b"d" * 255), union / (b"e" * 255))
    for _ in range(2):
        assert union.names() == sorted([b"d", b"e" * 255, moved, new])
        assert read(union / moved) == b"1+" and read(union / (new + b"/" + moved)) == b"2"
        assert read(union / (b"e" * 255 + b"/x")) == b"3" and union.names(b"d") == []
        union.remount()


def test_names_of_256_bytes_are_too_long_everywhere(union: Mounted) -> None:
    union.mount({b"f": file()})
    long, f = union / (b"n" * 256), union / b"f"
    results = [
        error_of(os.stat, long),
        error_of(os.mkdir, long),
        error_of(os.rmdir, long),
        error_of(os.unlink, long),
        error_of(os.mkfifo, long),
        error_of(os.open, long, os.O_CREAT | os.O_WRONLY),
        error_of(os.symlink, b"x", long),
        error_of(os.link, f, long),
        error_of(os.rename, f, long),
        error_of(os.rename, long, f),
        error_of(os.chmod, long, 0o600),
        error_of(os.truncate, long, 0),
        error_of(os.readlink, long),
        error_of(os.utime, long),
    ]
    assert results == [errno.ENAMETOOLONG] * len(results)


@pytest.mark.parametrize("union", ["rootless"], indirect=True)
def test_paths_of_path_max(union: Mounted) -> None:
    """4095 bytes below the mount can be made, copied up, renamed and removed; longer ones by working directory."""
    union.mount({b"x": file(b"x")})
    os.chdir(union.root)
    part = b"p" * 200
    for _ in range(30):  # 6030 bytes: more than PATH_MAX
        os.mkdir(part)
        os.chdir(part)
    write(b"deep", b"deep")
    os.rename(b"deep", b"deeper")
    assert os.listdir(b".") == [b"deeper"]
    os.chdir(union.root)
    long = b"/".join([part] * 20) + b"/" + b"f" * 70
    assert error_of(os.stat, b"y/" * 2048) == errno.ENAMETOOLONG
    write(long, b"long")
    os.rename(part, b"q")
    assert read(b"q" + long[200:]) == b"long"
    os.chdir(b"/")
    union.remount()
    assert read(union / (b"q" + long[200:])) == b"long"


def test_lower_paths_of_path_max_are_copied_up(union: Mounted) -> None:
    union.mount({b"/".join([b"d" * 100] * 30) + b"/f": file(b"1")})
    os.chdir(union.root)
    append(b"/".join([b"d" * 100] * 30) + b"/f", b"2")
    assert read(b"/".join([b"d" * 100] * 30) + b"/f") == b"12"


ENTRIES = 100_000


@pytest.mark.parametrize("union", ["root"], indirect=True)
def test_a_directory_of_100000_entries(union: Mounted) -> None:
    """Listed without much work, with cookies that outlive changes."""
    union.build({b"d/first": file()})
    for index in range(ENTRIES - 1):
        os.mknod(union.lowers[0] + b"/d/n%06d" % index)
    union.mount()
    assert len(os.listdir(union / b"d")) == ENTRIES
    assert cpu_time(union) < 20
    with stream(union / b"d") as listing:
        half = [listing.read() for _ in range(ENTRIES // 2)]
        cookie = listing.tell()
        following = listing.read()
        for name in half[5:1000]:  # gone: names that were returned already
            assert name is not None
            if name.startswith(b"n"):
                os.unlink(union / b"d/" + name)
        for index in range(1000):
            write(union / b"d/new%d" % index, b"")
        listing.seek(cookie)
        rest = list(listing.rest())
    old = [name for name in rest if not name.startswith(b"new")]
    assert rest[0] == following and len(set(rest)) == len(rest)
    assert not set(old) & set(half) and len(old) + len(half) == ENTRIES + 2  # with . and ..


def test_many_links_of_one_file_are_listed_in_linear_time(union: Mounted) -> None:
    union.mount({b"d/first": file(b"1"), **{b"d/n%d" % index: hardlink(b"d/first") for index in range(6000)}})
    assert len(os.listdir(union / b"d")) == 6001
    assert cpu_time(union) < 5
    assert os.stat(union / b"d/n5999").st_nlink == 6001


def test_cookies_stay_valid_while_entries_come_and_go(union: Mounted) -> None:
    """Whatever was there all the time is listed exactly once; seekdir gives the same name again."""
    names = [b"n%03d" % index for index in range(500)]
    union.mount({b"d/" + name: file() for name in names[:250]}, {b"d/" + name: file() for name in names[250:]})
    with stream(union / b"d") as listing:
        cookies: list[tuple[int, bytes]] = []
        seen: list[bytes] = []
        while True:
            cookie = listing.tell()
            name = listing.read()
            if name is None:
                break
            cookies.append((cookie, name))
            seen.append(name)
            if len(seen) % 10 == 0 and name in names:
                os.unlink(union / b"d/" + name)
                write(union / b"d/new%d" % len(seen), b"")
        stayed = set(names) - {name for name in names if not os.path.lexists(union / b"d/" + name)}
        assert sorted(name for name in seen if name in stayed) == sorted(stayed)
        assert len(seen) == len(set(seen))
        for cookie, name in cookies[::17]:
            if name in stayed:
                listing.seek(cookie)
                assert listing.read() == name
        listing.rewind()
        again = list(listing.rest())
        assert sorted(again) == sorted([*os.listdir(union / b"d"), b".", b".."])


def listed_parent(path: bytes) -> int:
    with stream(path) as listing:
        number = listing.number_of(b"..")
        assert all(listing.rest())  # the kernel keeps what was read to its end
        return number


def test_a_directory_that_was_moved_lists_its_new_parent(union: Mounted) -> None:
    """The kernel keeps listings, and a rename changes no time of what is moved."""
    union.mount({b"a/moved/x": file(), b"b/y": file()})
    os.mkdir(union / b"a/new")
    a, b = (os.stat(union / name).st_ino for name in (b"a", b"b"))
    assert [listed_parent(union / name) for name in (b"a/moved", b"a/new")] == [a, a]
    os.rename(union / b"a/moved", union / b"b/moved")
    assert listed_parent(union / b"b/moved") == b
    renameat2(union / b"a/new", union / b"b/moved", EXCHANGE)
    assert [listed_parent(union / name) for name in (b"a/new", b"b/moved")] == [a, b]


def test_removing_while_listing_empties_a_directory(union: Mounted) -> None:
    """rm -r: unlink each name as it is returned, then rmdir."""
    lower: Layer = {b"d/sub/x": file(), b"d/h": hardlink(b"d/sub/x")}
    union.mount({b"d/n%04d" % index: file() for index in range(3000)}, lower)
    os.unlink(union / b"d/sub/x")
    os.rmdir(union / b"d/sub")
    with stream(union / b"d") as listing:
        for name in listing.rest():
            if name not in (b".", b".."):
                os.unlink(union / b"d/" + name)
    os.rmdir(union / b"d")
    os.mkdir(union / b"d")
    assert union.names(b"d") == []


def test_many_directories_are_made_without_much_work(union: Mounted) -> None:
    """fuse-overlayfs: 20,000 mkdir took 7 s."""
    union.mount({b"d/x": file()})
    for index in range(3000):
        os.mkdir(union / b"d/%d" % index)
    assert cpu_time(union) < 15
    assert len(os.listdir(union / b"d")) == 3001


def test_a_new_directory_takes_files_and_directories_at_once(union: Mounted) -> None:
    union.mount({b"d/x": file(), b"d/gone/y": file(b"y")})
    os.unlink(union / b"d/gone/y")
    os.rmdir(union / b"d/gone")
    for name in (b"d/new", b"d/new/in", b"d/new/in/it", b"d/gone"):
        os.mkdir(union / name)
        write(union / name + b"/f", name)
        os.rename(union / name + b"/f", union / name + b"/g")
        os.mkdir(union / name + b"/empty")
        os.rmdir(union / name + b"/empty")
    os.rename(union / b"d/new/in", union / b"d/moved")
    write(union / b"d/moved/h", b"h")
    numbers = {name: os.lstat(union / name).st_ino for name in (b"d/new", b"d/moved", b"d/moved/it", b"d/moved/it/g")}
    links = os.lstat(union / b"d/new").st_nlink
    for _ in range(2):
        assert [union.names(name) for name in (b"d/new", b"d/moved", b"d/moved/it", b"d/gone")] == [
            [b"g"], [b"g", b"h", b"it"], [b"g"], [b"g"],
        ]  # fmt: skip
        assert [read(union / name) for name in (b"d/new/g", b"d/moved/g", b"d/moved/it/g")] == [
            b"d/new", b"d/new/in", b"d/new/in/it",
        ]  # fmt: skip
        assert {name: os.lstat(union / name).st_ino for name in numbers} == numbers
        assert os.lstat(union / b"d/new").st_nlink == links == os.lstat(union.upper + b"/d/new").st_nlink
        union.remount()
