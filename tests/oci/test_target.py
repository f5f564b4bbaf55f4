"""What no target takes: marks of overlays, and more than the limits."""

import stat
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, Unsupported
from layerfs.oci.tar import Member
from layerfs.oci.target import Limits, TargetForm, as_stored
from layerfs.snapshots.driver import Nesting
from tests.host import require
from tests.oci.tars import (
    END,
    apply,
    brief,
    directory,
    file,
    header,
    padded,
    pax,
)


@pytest.mark.parametrize(
    "entry",
    [
        header(b"dev", b"3"),
        pax({b"SCHILY.xattr.trusted.overlay.opaque": b"y"}) + directory(b"d"),
        pax({b"SCHILY.xattr.user.overlay.whiteout": b"y"}) + file(b"f"),
        pax({b"SCHILY.xattr.trusted.overlay.redirect": b"/etc"}) + directory(b"d"),
        pax({b"SCHILY.xattr.user.containers.override_stat": b"0:0:4755"}) + file(b"f"),
        pax({b"SCHILY.xattr.user.overlay.metacopy": b""}) + file(b"f"),
        pax({b"SCHILY.xattr.user.overlay.opaque": b"y"}) + directory(b"./"),
    ],
)
def test_mark_of_an_overlay_is_refused_by_name(entry: bytes, scratch: Path) -> None:
    with pytest.raises(Unsupported, match=r"would take for"):
        apply(entry + END, scratch / "t")
    assert brief(scratch / "t") == {}


def test_kernel_shows_the_marks_of_its_own_prefix_alone() -> None:
    require("root", "kernel overlay")
    kept = Member(b"f", stat.S_IFREG, 0o644, 0, 0, 0, xattrs={b"trusted.overlay.opaque": b"y", b"user.x": b""})
    assert set(as_stored(kept, Nesting.KERNEL).xattrs) == {b"trusted.overlay.overlay.opaque", b"user.x"}
    for name in (b"user.overlay.opaque", b"user.containers.override_stat", b"trusted.fuseoverlayfs.opaque"):
        with pytest.raises(Unsupported, match=name.decode()):
            as_stored(Member(b"f", stat.S_IFREG, 0o644, 0, 0, 0, xattrs={name: b"y"}), Nesting.KERNEL)
    with pytest.raises(Unsupported, match="0/0"):
        as_stored(Member(b"f", stat.S_IFCHR, 0o644, 0, 0, 0), Nesting.KERNEL)


def test_mark_is_content_in_a_plain_tree(scratch: Path) -> None:
    require("root")
    apply(header(b"dev", b"3") + END, scratch / "t", form=TargetForm.PLAIN)
    assert stat.S_ISCHR((scratch / "t/dev").lstat().st_mode)


def test_limits_end_a_bomb(scratch: Path) -> None:
    with pytest.raises(InvalidArgument, match="more than 10 entries"):
        apply(b"".join(file(b"%d" % n) for n in range(11)) + END, scratch / "a", limits=Limits(entries=10))
    with pytest.raises(InvalidArgument, match="more than 9999 bytes"):
        apply(file(b"f", bytes(20000)) + END, scratch / "b", limits=Limits(size=9999))
    with pytest.raises(InvalidArgument, match="more than 9999 bytes"):
        apply(file(b"f") + END + bytes(20000), scratch / "c", limits=Limits(size=9999))
    huge = {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"%d" % (1 << 50), b"GNU.sparse.name": b"s"}
    with pytest.raises(InvalidArgument, match="files have more than"):
        apply(pax(huge) + file(b"s", padded(b"0\n")) + END, scratch / "d")
