"""Files from one snapshot into another."""

import os
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError, NotFound
from layerfs.oci.copying import copy
from layerfs.snapshots.library import Store
from layerfs.snapshots.snapshotter import Snapshotter
from tests.contract.subjects import a_subject
from tests.host import require
from tests.oci.tars import END, apply, directory, entry_of, file, link, pax, symlink

SOURCE = b"".join(
    [
        directory(b"opt", mode=0o711), pax({b"SCHILY.xattr.user.x": b"\0y", b"mtime": b"5.000000007"}),
        file(b"opt/tool", b"#!", mode=0o4755, uid=7, gid=8), link(b"opt/again", b"opt/tool"), symlink(b"opt/s",
        b"tool"),
        directory(b"opt/d/e"), file(b"opt/d/e/f", b"f"), symlink(b"lnk", b"/opt"), file(b"opt/z"), END,
    ]
)  # fmt: skip
TARGET = directory(b"usr/bin") + symlink(b"bin", b"usr/bin") + file(b"usr/bin/old", b"old") + directory(b"etc") + END


def own(snapshots: Snapshotter, key: str) -> Path:
    return Path(os.fsdecode(snapshots.layer(key).path))


@pytest.fixture
def snapshots(store: Store) -> Snapshotter:
    """A source, a committed base, and an active snapshot `work` on it."""
    found = store.snapshotter("overlay")
    for name, layer in (("source", SOURCE), ("base", TARGET)):
        found.prepare("x", "")
        apply(layer, own(found, "x"))
        found.commit(name, "x")
    found.prepare("work", "base")
    return found


def test_file_keeps_all_it_has(snapshots: Snapshotter) -> None:
    copy(snapshots, "source", b"lnk/tool", "work", b"bin/")
    found = entry_of(own(snapshots, "work") / "usr/bin/tool")
    assert (found.mode, found.owner, found.content) == (0o4755, (7, 8), b"#!")
    assert (found.mtime_ns, found.xattrs) == (5_000_000_007, (("user.x", b"\0y"),))
    assert entry_of(own(snapshots, "work") / "usr/bin").mode == 0o755
    assert not (own(snapshots, "work") / "bin").exists()


def test_tree_with_links_goes_into_a_directory_or_becomes_one(snapshots: Snapshotter) -> None:
    copy(snapshots, "source", b"opt", "work", b"usr")
    copy(snapshots, "source", b"opt/.", "work", b"etc")
    copy(snapshots, "source", b"opt", "work", b"new")
    for place in ("usr/opt", "etc", "new"):
        root = own(snapshots, "work") / place
        assert sorted(os.listdir(root)) == ["again", "d", "s", "tool", "z"]
        assert (root / "tool").stat().st_ino == (root / "again").stat().st_ino
        assert os.readlink(root / "s") == "tool"
        assert (root / "d/e/f").read_bytes() == b"f"
    assert entry_of(own(snapshots, "work") / "new").mode == 0o711


def test_copy_over_what_is_there_and_what_was_deleted(snapshots: Snapshotter) -> None:
    work = own(snapshots, "work")
    os.mkdir(work / "usr")
    os.mknod(work / "usr/bin", 0o20000, 0)  # as overlayfs deletes
    copy(snapshots, "source", b"opt", "work", b"usr/bin")
    assert os.getxattr(work / "usr/bin", "trusted.overlay.opaque") == b"y"
    copy(snapshots, "source", b"opt/d/e/f", "work", b"usr/bin/tool")
    assert (work / "usr/bin/tool").read_bytes() == b"f"


def test_what_is_in_the_root_or_behind_a_symlink(snapshots: Snapshotter) -> None:
    """`.` was not found, and `lnk/.` became a symlink in place of the target."""
    copy(snapshots, "source", b"lnk/.", "work", b"etc")
    assert sorted(os.listdir(own(snapshots, "work") / "etc")) == ["again", "d", "s", "tool", "z"]
    for path in (b".", b"", b"./."):
        snapshots.prepare(f"from {path!r}", "")
        copy(snapshots, "source", path, f"from {path!r}", b"")
        assert sorted(os.listdir(own(snapshots, f"from {path!r}"))) == ["lnk", "opt"]
    with pytest.raises(NotFound, match="no directory /opt/tool/"):
        copy(snapshots, "source", b"opt/tool/", "work", b"etc")


@pytest.mark.parametrize(
    ("source", "path", "target", "to"),
    [
        ("source", b"no", "work", b"etc"), ("source", b"opt/tool/x", "work", b"etc"), ("no", b"opt", "work", b"etc"),
        ("source", b"opt", "base", b"etc"), ("source", b"opt", "no", b"etc"), ("source", b"opt", "work",
        b"no/such/dir"),
        ("source", b"opt/tool", "work", b"usr/bin/old/"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_is_an_error(
    source: str, path: bytes, target: str, to: bytes, snapshots: Snapshotter
) -> None:
    with pytest.raises(LayerfsError):
        copy(snapshots, source, path, target, to)


def test_in_a_whole_tree_devices_and_xattrs_of_overlays_are_content(scratch: Path) -> None:
    """The device 0/0 was taken for a deletion, and left out without a word."""
    require("btrfs")
    with a_subject("btrfs", scratch) as subject:
        snapshots = subject.snapshots
        for key in ("source", "work"):
            snapshots.prepare(key, "")
        made = own(snapshots, "source") / "d"
        made.mkdir()
        os.mknod(made / "null", 0o20600, 0)
        os.setxattr(made, "trusted.overlay.opaque", b"y")
        (made / "f").write_bytes(b"f")
        assert copy(snapshots, "source", b"d", "work", b"").left_out == ()
        copied = own(snapshots, "work") / "d"
        assert sorted(os.listdir(copied)) == ["f", "null"]
        assert (entry_of(copied / "null").kind, entry_of(copied / "f").content) == ("c", b"f")
        assert os.getxattr(copied, "trusted.overlay.opaque") == b"y"
        os.mknod(own(snapshots, "work") / "null", 0o20600, 0)
        with pytest.raises(InvalidArgument):  # nor does one in the target
            copy(snapshots, "source", b"d/f", "work", b"null/")
