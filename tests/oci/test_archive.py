"""Members of an archive, where they are."""

import os
from pathlib import Path

import pytest

from layerfs.errors import Corrupt, NotFound
from layerfs.oci.archive import Archive
from tests.oci.tars import END, directory, file, link, symlink


def read(data: bytes, name: bytes, scratch: Path) -> bytes:
    (scratch / "a").write_bytes(data)
    fd = os.open(scratch / "a", os.O_RDONLY)
    try:
        return Archive(fd).read(name, 1000)
    finally:
        os.close(fd)


def test_members_are_found_wherever_they_are(scratch: Path) -> None:
    large = file(b"large", bytes(200_000))
    data = symlink(b"d/l", b"../x/../f") + large + directory(b"d") + file(b"./f", b"old") + file(b"f", b"new") + END
    assert read(data, b"d/l", scratch) == b"new"
    assert read(data, b"./f", scratch) == b"new"


BAD = {
    "a link out": (symlink(b"f", b"../f"), Corrupt),
    "an absolute link": (symlink(b"f", b"/etc/passwd"), Corrupt),
    "links in a circle": (symlink(b"f", b"g") + symlink(b"g", b"f"), Corrupt),
    "a hard link": (file(b"g") + link(b"f", b"g"), Corrupt),
    "a name that leads out": (file(b"../f"), Corrupt),
    "nothing": (file(b"g"), NotFound),
    "a directory": (directory(b"f"), NotFound),
    "a file that is too large": (file(b"f", bytes(1001)), Corrupt),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archive_is_refused(kind: str, scratch: Path) -> None:
    data, error = BAD[kind]
    with pytest.raises(error):
        read(data + END, b"f", scratch)


def test_archive_that_ends_in_a_file_is_refused(scratch: Path) -> None:
    with pytest.raises(Corrupt):
        read(file(b"f", bytes(100_000))[:50_000], b"f", scratch)
