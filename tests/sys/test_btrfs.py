"""Subvolumes of a btrfs that the test makes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.sys import btrfs
from tests.contract.subjects import a_btrfs
from tests.host import require

pytestmark = pytest.mark.mounts


@pytest.fixture
def volume(scratch: Path) -> Iterator[Path]:
    require("root", "btrfs")
    yield a_btrfs(scratch)


def make(path: Path) -> Path:
    btrfs.create(os.fsencode(path.parent), os.fsencode(path.name))
    return path


def copy(source: Path, target: Path, *, read_only: bool = False) -> Path:
    btrfs.snapshot(os.fsencode(source), os.fsencode(target.parent), os.fsencode(target.name), read_only=read_only)
    return target


def subvolumes(volume: Path) -> list[str]:
    listed = subprocess.run(["btrfs", "subvolume", "list", volume], capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[-1] for line in listed.splitlines())


def own(path: Path) -> btrfs.Own:
    os.sync()
    return btrfs.own(os.fsencode(path))


def test_filesystem_and_subvolumes_are_known(volume: Path, scratch: Path) -> None:
    made = make(volume / "a")
    (volume / "plain").mkdir()
    (volume / "link").symlink_to("a")
    assert [btrfs.is_btrfs(os.fsencode(path)) for path in (volume, scratch)] == [True, False]
    found = {path.name for path in volume.iterdir() if btrfs.is_subvolume(os.fsencode(path))}
    assert found == {made.name}
    assert not btrfs.is_subvolume(os.fsencode(volume / "absent"))


def test_copy_shares_and_is_apart(volume: Path) -> None:
    made = make(volume / "a")
    (made / "file").write_text("old")
    copied, closed = copy(made, volume / "b"), copy(made, volume / "c", read_only=True)
    (copied / "file").write_text("new")
    assert (made / "file").read_text() == (closed / "file").read_text() == "old"
    with pytest.raises(OSError, match="Read-only"):
        (closed / "file").write_text("new")
    btrfs.set_read_only(os.fsencode(closed), False)
    (closed / "file").write_text("new")
    btrfs.set_read_only(os.fsencode(copied), True)
    with pytest.raises(OSError, match="Read-only"):
        (copied / "other").touch()


def test_own_is_what_is_not_shared_with_the_original(volume: Path) -> None:
    made = make(volume / "a")
    (made / "big").write_bytes(os.urandom(1 << 20))
    for number in range(2000):
        (made / f"small {number}").write_text("x" * 100)
    first = own(made)
    assert (first.size - (1 << 20)) in range(200_000, 300_000)
    assert first.inodes == 2002
    copied = copy(made, volume / "b")
    assert own(copied) == (0, 0)
    with open(copied / "big", "r+b") as file:
        file.write(os.urandom(4096))
    (copied / "new").write_bytes(os.urandom(1 << 16))
    os.truncate(copied / "new", 1 << 30)
    subprocess.run(["cp", "--reflink=always", copied / "big", copied / "again"], check=True)
    found = own(copied)
    assert found.inodes == 2
    assert found.size in range(4096 + (1 << 16), 16384 + (1 << 16))
    assert own(made) == first


def test_destroyed_subvolume_takes_with_it_what_strangers_made_in_it(volume: Path) -> None:
    made, kept = make(volume / "a"), make(volume / "kept")
    (made / "dir").mkdir()
    inner = make(made / "dir/inner")
    (inner / "link").symlink_to("../../../kept")
    innermost = make(inner / "innermost")
    copy(innermost, made / "dir/closed", read_only=True)
    for path in (innermost, inner, made):
        (path / "file").touch()
        btrfs.set_read_only(os.fsencode(path), True)
    (kept / "file").touch()
    btrfs.destroy(os.fsencode(made))
    btrfs.destroy(os.fsencode(made))
    assert subvolumes(volume) == ["kept"]
    assert (kept / "file").exists()


def test_destroy_leaves_plain_directories_and_links_alone(volume: Path) -> None:
    (volume / "plain").mkdir()
    (volume / "link").symlink_to(make(volume / "a"))
    for name in ("plain", "link", "absent"):
        btrfs.destroy(os.fsencode(volume / name))
    assert subvolumes(volume) == ["a"]
    assert (volume / "plain").is_dir()


def test_limit_bounds_what_a_subvolume_takes_for_itself(volume: Path) -> None:
    made = make(volume / "a")
    btrfs.limit(os.fsencode(made), 8 << 20)
    with pytest.raises(OSError) as raised, open(made / "big", "wb", buffering=0) as file:
        for _ in range(32):
            file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
    assert raised.value.errno == 122  # EDQUOT
