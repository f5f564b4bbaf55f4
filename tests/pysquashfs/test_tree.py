"""What no image can hold is refused by its name."""

import errno
import os
import stat
from pathlib import Path

import pytest

from layerfs.pysquashfs import (
    FileSpec,
    SquashfsError,
    write_image,
)
from tests.pysquashfs.write_facts import DIRECTORY, FILE, LINK

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


def test_more_owners_than_squashfs_has_room_for_are_refused(scratch: Path) -> None:
    entries = (FileSpec(b"%d" % number, stat.S_IFIFO, number) for number in range(65537))
    with pytest.raises(SquashfsError, match="more than the format can hold"):
        write_image(scratch / "image", entries)
    assert os.listdir(scratch) == []
