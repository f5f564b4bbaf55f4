"""Owner, mode, xattrs and times: all of them, in an order in which none undoes another; and without root."""

import os
import struct
from pathlib import Path

from tests.host import require
from tests.oci.tars import (
    END,
    NOW,
    apply,
    directory,
    entry_of,
    file,
    header,
    look,
    pax,
    symlink,
)
from tests.oci.test_tar import ODD


def test_everything_of_an_entry_arrives(scratch: Path) -> None:
    """Owner, mode, times, xattrs and devices, whatever the order in which they must be set."""
    require("root")
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # linux/capability.h, revision 2
    xattrs = {
        b"SCHILY.xattr.security.capability": capability,
        b"SCHILY.xattr.user.odd\xe9": b"\0\xff=\n",
        b"mtime": b"5.000000007",
    }
    entries = [
        pax(xattrs), file(b"f", b"data", mode=0o4755, uid=3_000_000, gid=4_000_000_000),
        pax({b"SCHILY.xattr.user.d": b"", b"mtime": b"-7.5"}),
        directory(b"d", mode=0o2500, uid=1, gid=2), file(b"d/in", b"1"),
        header(b"char", b"3", major=1, minor=3, mode=0o622), header(b"block", b"4", major=7, minor=0x12345, mode=0o60),
        header(b"fifo", b"6", mode=0o640, uid=9), symlink(b"s", b"\xff\xfe", uid=5, gid=6), file(ODD, b""), END,
    ]  # fmt: skip
    apply(b"".join(entries), scratch / "t")
    found = look(scratch / "t")
    assert (found["f"].mode, found["f"].owner, found["f"].mtime_ns) == (
        0o4755,
        (3_000_000, 4_000_000_000),
        5_000_000_007,
    )
    assert dict(found["f"].xattrs) == {"security.capability": capability, os.fsdecode(b"user.odd\xe9"): b"\0\xff=\n"}
    assert (found["d"].mode, found["d"].owner, found["d"].mtime_ns) == (0o2500, (1, 2), -7_500_000_000)
    assert found["d"].xattrs == (("user.d", b""),)
    assert (found["d/in"].owner, found["d/in"].mtime_ns) == ((0, 0), NOW * 10**9)
    assert [found[n].kind for n in ("char", "block", "fifo", "s")] == ["c", "b", "p", "l"]
    assert [found[n].mode for n in ("char", "block", "fifo")] == [0o622, 0o60, 0o640]
    assert (found["char"].rdev, found["block"].rdev) == (os.makedev(1, 3), os.makedev(7, 0x12345))
    assert (found["s"].content, found["s"].owner, found["s"].mtime_ns) == (b"\xff\xfe", (5, 6), NOW * 10**9)
    assert os.fsdecode(ODD) in found


def test_directory_mode_and_times_come_last(scratch: Path) -> None:
    apply(directory(b"d", mode=0o500) + directory(b"d/e", mode=0) + file(b"d/e/f", b"x") + END, scratch / "t")
    for name, mode in (("d", 0o500), ("d/e", 0)):
        found = entry_of(scratch / "t" / name)
        assert (found.mode, found.mtime_ns) == (mode, NOW * 10**9)
