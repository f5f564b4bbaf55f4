"""Owner, mode, xattrs and times: all of them, in an order in which none undoes another; and without root."""

import os
import struct
from pathlib import Path

from layerfs.oci.metadata import Ownership
from layerfs.oci.produce import Difference, produce_layer
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
from tests.oci.test_tar import ODD, members


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


def test_owners_beside_the_files_where_they_cannot_be_set(scratch: Path) -> None:
    """containers/storage writes `uid:gid:mode`, the mode octal with a leading 0; the layer's root has one, too."""
    entries = [
        file(b"f", b"x", mode=0o4640, uid=7, gid=8), file(b"none", mode=0), directory(b"d", mode=0o500, uid=3),
        file(b"d/in", b"y", mode=0o666), header(b"dev", b"4", major=7, minor=1, mode=0o660), header(b"fifo", b"6"),
        symlink(b"s", b"t", uid=9), END,
    ]  # fmt: skip
    apply(b"".join(entries), scratch / "t", ownership=Ownership.OVERRIDE)
    found = look(scratch / "t")
    said = {path: dict(entry.xattrs).get("user.containers.override_stat") for path, entry in found.items()}
    assert said == {
        ".": b"0:0:0755", "f": b"7:8:04640", "none": b"0:0:00", "d": b"3:0:0500", "d/in": b"0:0:0666",
        "dev": b"0:0:0660:block-7-1", "fifo": b"0:0:0644:pipe", "s": None,
    }  # fmt: skip
    assert [found[path].kind for path in ("dev", "fifo", "s")] == ["f", "f", "l"]
    assert all(entry.mode & 0o6022 == 0 for path, entry in found.items() if path != "s")
    assert {entry.owner for entry in found.values()} == {(os.geteuid(), os.getegid())}


def test_owners_that_were_written_down_come_out_again(scratch: Path) -> None:
    layer = directory(b"d", mode=0o500, uid=3) + file(b"d/f", b"x", mode=0o4640, uid=7, gid=8) + END
    apply(layer, scratch / "t", ownership=Ownership.OVERRIDE)
    out = bytearray()
    produce_layer(Difference(bytes(scratch / "t")), out.extend)
    found = {member.path: (member.mode, member.uid, member.gid, member.xattrs) for member, _ in members(bytes(out))}
    assert found == {b"d/": (0o500, 3, 0, {}), b"d/f": (0o4640, 7, 8, {})}
