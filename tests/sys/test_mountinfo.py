"""Lines of mountinfo as values."""

import os
import subprocess
import sys

from layerfs.sys.mountinfo import MountInfo, lines_of, mount_lines, mountinfo, parse_mountinfo, type_of

LINE = (
    rb"36 35 98:0 /mnt1\040a /mnt\0112\134x rw,noatime master:1 shared:2 - fuse.ext3 /dev/ro\043ot rw,errors=con\054t"
)


def test_mountinfo_line_is_taken_apart_and_unescaped() -> None:
    assert parse_mountinfo(LINE) == MountInfo(
        id=36,
        parent=35,
        device=(98, 0),
        root=b"/mnt1 a",
        target=b"/mnt\t2\\x",
        options=(b"rw", b"noatime"),
        fields=(b"master:1", b"shared:2"),
        type=b"fuse.ext3",
        source=b"/dev/ro#ot",
        super_options=(b"rw", b"errors=con,t"),
    )


def test_mountinfo_line_may_have_no_optional_field_and_no_source() -> None:
    info = parse_mountinfo(b"1 0 0:2 / /proc rw -  - proc  rw".replace(b" -  -", b" -"))
    assert (info.fields, info.type, info.source) == ((), b"proc", b"")


def test_mountinfo_of_another_process_is_its_namespace() -> None:
    assert mountinfo(os.getpid()) == mountinfo()


def test_reading_what_is_mounted_needs_no_ctypes() -> None:
    program = "import sys; from layerfs.sys import mountinfo; mountinfo.mountinfo(); print('ctypes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_lines_of_a_type_are_found_among_all() -> None:
    kinds = {type_of(line) for line in mount_lines()}
    assert b"proc" in kinds
    for kind in kinds:
        assert lines_of((kind,)) == [line for line in mount_lines() if type_of(line).startswith(kind)]
    assert lines_of((b"no-such", b"rw")) == []
    assert lines_of((b"no-such", b"proc")) == lines_of((b"proc",)) != []
