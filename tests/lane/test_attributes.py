"""Attributes that the lane sets: of files and symlinks of the upper, of files that it copies up, of directories."""

import os
import struct

import pytest

from layerfs.lane.events import Edited, LaneEdit, Owned
from tests.lane.copies import UPPER, Scene
from tests.lane.rig import (
    CREATE,
    ENTRY,
    GETATTR,
    HOME,
    READLINK,
    RELEASE,
    REMOVEXATTR,
    SETATTR,
    SETXATTR,
    SYMLINK,
    UNLINK,
    lookup,
)

MODE, UID, GID, SIZE, ATIME, MTIME, FH, ATIME_NOW, MTIME_NOW, LOCKOWNER, CTIME, KILL = (1 << bit for bit in range(12))
UNKNOWN = 1 << 12


def wanted(
    valid: int, *, mode: int = 0, uid: int = 0, gid: int = 0, size: int = 0, atime: int = 0, mtime: int = 0
) -> bytes:
    """The body of a SETATTR; times in ns."""
    (a, a_ns), (m, m_ns) = (divmod(time, 10**9) for time in (atime, mtime))
    return struct.pack("=I4xQQQqqQIIIIIIII", valid, 0, size, 0, a, m, 0, a_ns, m_ns, 0, mode, 0, uid, gid, 0)


def told(answer: tuple[int, bytes] | None) -> tuple[int, int, int, int]:
    """Mode, owner, group and size in an answer."""
    assert answer is not None and answer[0] == 0
    size = struct.unpack_from("=Q", answer[1], 16 + 8)[0]
    return (*struct.unpack_from("=I4xII", answer[1], 16 + 60), size)


def make(scene: Scene, name: bytes = b"new", mode: int = 0o644) -> int:
    """Have a file made, and leave it open; its number."""
    body = struct.pack("=IIII", os.O_WRONLY | os.O_CREAT, 0o100000 | mode, 0, 0) + name + b"\0"
    found = scene.rig.ask(CREATE, HOME, body)
    assert found is not None
    return int(ENTRY.unpack_from(found[1])[0])


def close(scene: Scene, number: int) -> None:
    assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")


@pytest.mark.parametrize("is_open", [True, False])
def test_what_tar_and_cp_set_of_a_new_file_is_set(scene: Scene, *, is_open: bool) -> None:
    number, path = make(scene), scene.upper / "new"
    if not is_open:
        close(scene, number)
    ask = scene.rig.ask
    assert told(ask(SETATTR, number, wanted(UID | GID | CTIME | KILL, uid=5, gid=6))) == (0o100644, 5, 6, 0)
    assert told(ask(SETATTR, number, wanted(MODE | CTIME, mode=0o100640))) == (0o100640, 5, 6, 0)
    assert told(ask(SETATTR, number, wanted(ATIME | MTIME | CTIME, atime=-5, mtime=7 * 10**9 + 1)))[3] == 0
    st = path.stat()
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_atime_ns, st.st_mtime_ns) == (0o100640, 5, 6, -5, 7 * 10**9 + 1)
    assert told(ask(SETATTR, number, wanted(SIZE | MTIME | FH | LOCKOWNER, size=3, mtime=9)))[3] == 3
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (bytes(3), 9)
    assert ask(SETATTR, number, wanted(ATIME | ATIME_NOW, atime=11)) is not None, "the kernel's now is sent with it"
    assert path.stat().st_mtime_ns == 9
    assert ask(SETATTR, number, wanted(MTIME_NOW)) is not None
    assert path.stat().st_mtime_ns > 9
    assert told(ask(GETATTR, number, bytes(16))) == (0o100640, 5, 6, 3)
    taken = scene.rig.lane.take(number)
    assert taken is not None
    assert (taken.mode, taken.uid, taken.gid, taken.fd >= 0) == (0o100640, 5, 6, is_open)
    if taken.fd >= 0:
        os.close(taken.fd)


def test_a_file_of_a_lower_is_copied_up_and_its_readers_go_on_with_the_copy(scene: Scene) -> None:
    number = scene.known("file")
    assert scene.open(number, os.O_RDONLY)
    assert scene.read(number) == b"content"
    assert told(scene.rig.ask(SETATTR, number, wanted(MODE | CTIME, mode=0o100600))) == (0o100600, 0, 0, 7)
    assert told(scene.rig.ask(SETATTR, number, wanted(SIZE | MTIME | CTIME, size=4, mtime=5)))[3] == 4
    assert scene.read(number) == b"cont"
    assert scene.edits == [Edited(LaneEdit.COPIED, HOME, b"file", number)]
    assert ((scene.lower / "file").stat().st_mode, (scene.lower / "file").read_bytes()) == (0o100640, b"content")
    assert (scene.upper / "file").read_bytes() == b"cont"


def test_a_time_that_a_file_of_a_lower_has_does_not_copy_it_up(scene: Scene) -> None:
    number, now = scene.known("file"), (scene.lower / "file").stat().st_mtime_ns
    assert scene.rig.ask(SETATTR, number, wanted(MTIME | CTIME, mtime=now)) is not None
    assert (os.listdir(scene.upper), scene.edits) == ([], [])
    assert scene.rig.ask(SETATTR, number, wanted(MTIME | CTIME, mtime=now + 1)) is not None
    assert (scene.upper / "file").stat().st_mtime_ns == now + 1


@pytest.mark.parametrize("name", ["large", "sparse", "marked"])
def test_what_is_more_than_plain_is_copied_up_by_others(scene: Scene, name: str) -> None:
    number = scene.known(name)
    before = (scene.lower / name).stat()
    for body in (wanted(MODE, mode=0o100600), wanted(SIZE, size=1), wanted(MTIME, mtime=5)):
        assert scene.rig.ask(SETATTR, number, body) is None
    assert (os.listdir(scene.upper), (scene.lower / name).stat()) == ([], before)


def test_bits_that_a_change_takes_are_for_others(scene: Scene) -> None:
    number = make(scene, mode=0o4755)
    for body in (wanted(UID, uid=5), wanted(GID, gid=5), wanted(SIZE, size=5)):
        assert scene.rig.ask(SETATTR, number, body) is None
    assert scene.rig.ask(SETATTR, number, wanted(MODE, mode=0o102755)) is None
    assert not scene.open(number, os.O_WRONLY | os.O_TRUNC)
    assert ((scene.upper / "new").stat().st_mode, (scene.upper / "new").stat().st_size) == (0o104755, 0)
    assert told(scene.rig.ask(SETATTR, number, wanted(MODE, mode=0o100755)))[0] == 0o100755
    assert scene.rig.ask(SETATTR, number, wanted(UID, uid=5)) is not None


@pytest.mark.parametrize(
    "body",
    [
        wanted(UNKNOWN | MTIME),
        wanted(SIZE, size=1 << 63),
        wanted(MTIME)[:-1],
        struct.pack("=I4xQQQqqQIIIIIIII", MTIME, 0, 0, 0, 0, 0, 0, 0, 10**9, 0, 0, 0, 0, 0, 0),
        struct.pack("=I4xQQQqqQIIIIIIII", ATIME, 0, 0, 0, 0, 0, 0, 10**9, 0, 0, 0, 0, 0, 0, 0),
    ],
)
def test_what_is_no_plain_change_is_for_others(scene: Scene, body: bytes) -> None:
    number = make(scene)
    before = (scene.upper / "new").stat()
    assert scene.rig.ask(SETATTR, number, body) is None
    assert (scene.upper / "new").stat() == before


def test_a_file_that_is_another_one_by_now_is_not_changed(scene: Scene) -> None:
    number = make(scene)
    close(scene, number)
    (scene.upper / "new").rename(scene.upper / "away")
    (scene.upper / "new").write_bytes(b"another")
    before = (scene.upper / "new").stat()
    assert scene.rig.ask(SETATTR, number, wanted(MODE, mode=0o100600)) is None
    assert scene.rig.ask(SETATTR, number, wanted(SIZE, size=1)) is None
    assert (scene.upper / "new").stat() == before


def test_a_large_file_is_cut_by_others(scene: Scene) -> None:
    number = make(scene)
    assert scene.rig.ask(SETATTR, number, wanted(SIZE, size=2 << 20)) is not None
    assert scene.rig.ask(SETATTR, number, wanted(SIZE, size=1)) is None
    assert not scene.open(number, os.O_WRONLY | os.O_TRUNC)
    assert scene.rig.ask(SETATTR, number, wanted(SIZE, size=(2 << 20) - 5)) is not None


def test_a_small_file_is_emptied_when_it_is_opened_so(scene: Scene) -> None:
    number = scene.known("file")
    assert scene.open(number, os.O_RDONLY) and scene.open(number, os.O_RDWR | os.O_TRUNC)
    assert ((scene.upper / "file").read_bytes(), (scene.lower / "file").read_bytes()) == (b"", b"content")
    assert scene.write(number, 0, b"new") and scene.read(number) == b"new"
    assert scene.open(number, os.O_WRONLY | os.O_TRUNC)
    assert scene.read(number) == b""


def test_a_file_of_which_an_open_has_no_descriptor_yet_is_left_to_others(scene: Scene) -> None:
    """Its new mode might forbid us to open it."""
    number = make(scene)
    close(scene, number)
    for _ in range(2):
        assert scene.open(number, os.O_RDONLY)
        close(scene, number)
    assert scene.open(number, os.O_RDONLY)  # as it was opened before: its descriptor comes with the first READ
    assert scene.rig.ask(SETATTR, number, wanted(MODE, mode=0o100000)) is None
    assert scene.rig.ask(SETATTR, number, wanted(MTIME, mtime=5)) is not None
    assert scene.read(number) == b""
    assert scene.rig.ask(SETATTR, number, wanted(MODE, mode=0o100000)) is not None


def test_a_directory_is_set_and_told_of_by_its_owner_and_mode(scene: Scene) -> None:
    ask = scene.rig.ask
    assert told(ask(SETATTR, HOME, wanted(MODE, mode=0o42751)))[0] == 0o42751
    assert told(ask(SETATTR, HOME, wanted(UID | GID, uid=5, gid=6)))[:3] == (0o42751, 5, 6)
    assert ask(SETATTR, HOME, wanted(ATIME | MTIME, atime=3, mtime=4)) is not None
    st = scene.upper.stat()
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_atime_ns, st.st_mtime_ns) == (0o42751, 5, 6, 3, 4)
    first, second = (edit.shown for edit in scene.edits)
    assert first is not None and (first.mode, first.uid) == (0o42751, 0)
    assert second == Owned(st.st_dev, st.st_ino, 0o42751, 5, 6)
    assert [edit[:4] for edit in scene.edits] == [(LaneEdit.SET, HOME, b"", HOME)] * 2
    assert told(ask(GETATTR, HOME, bytes(16)))[:3] == (0o42751, 5, 6)


def test_a_directory_that_others_answer_for_is_set_by_others(scene: Scene) -> None:
    assert scene.rig.ask(SETATTR, HOME, wanted(SIZE)) is None
    scene.upper.chmod(0o700)  # others did
    assert scene.rig.ask(SETATTR, HOME, wanted(MODE, mode=0o40711)) is None
    st = scene.upper.stat()
    owner = {"mode": st.st_mode, "uid": st.st_uid, "gid": st.st_gid}
    scene.rig.lane.top(HOME, 0, single=False, makes=False, **owner)
    assert scene.rig.ask(SETATTR, HOME, wanted(MODE, mode=0o40711)) is None
    scene.rig.lane.top(HOME, UPPER, single=False, makes=True, **owner)
    scene.rig.lane.share(HOME, UPPER, -1)
    assert scene.rig.ask(SETATTR, HOME, wanted(MODE, mode=0o40711)) is None
    assert (scene.upper.stat().st_mode, scene.edits) == (0o40700, [])


def symlink(scene: Scene, name: bytes, target: bytes) -> int | None:
    found = scene.rig.ask(SYMLINK, HOME, name + b"\0" + target + b"\0")
    return None if found is None else int(ENTRY.unpack_from(found[1])[0])


def test_a_symlink_is_made_shown_set_and_removed(scene: Scene) -> None:
    number, path = symlink(scene, b"link", b"to/nowhere"), scene.upper / "link"
    assert number is not None
    st = path.lstat()
    assert (os.readlink(path), number & ((1 << 49) - 1)) == ("to/nowhere", st.st_ino)
    assert scene.edits == [Edited(LaneEdit.MADE, HOME, b"link", number)]
    assert scene.rig.ask(READLINK, number) == (0, b"to/nowhere")
    assert lookup(scene.rig, b"link") == (number, 10)
    assert told(scene.rig.ask(SETATTR, number, wanted(UID | GID | KILL, uid=5, gid=6))) == (st.st_mode, 5, 6, 10)
    assert scene.rig.ask(SETATTR, number, wanted(ATIME | MTIME, atime=3, mtime=4)) is not None
    st = path.lstat()
    assert (st.st_uid, st.st_gid, st.st_atime_ns, st.st_mtime_ns) == (5, 6, 3, 4)
    for body in (wanted(MODE, mode=0o120700), wanted(SIZE, size=3)):
        assert scene.rig.ask(SETATTR, number, body) is None
    assert scene.rename(b"link", b"moved")
    assert scene.rig.ask(UNLINK, HOME, b"moved\0") is not None
    assert scene.rig.ask(READLINK, number) is None, "who holds on to it is others' affair"
    assert os.listdir(scene.upper) == []


@pytest.mark.parametrize(
    ("name", "target"),
    [(b"file", b"x"), (b".wh.x", b"x"), (b"a/b", b"x"), (b"new", b""), (b"new", b"x\0y"), (b"", b"x")],
)
def test_what_is_no_new_symlink_is_for_others(scene: Scene, name: bytes, target: bytes) -> None:
    assert symlink(scene, name, target) is None
    assert scene.rig.ask(SYMLINK, HOME, b"new\0target") is None
    assert scene.rig.ask(SYMLINK, HOME, b"new") is None
    assert (os.listdir(scene.upper), scene.edits) == ([], [])


def test_a_symlink_that_may_have_a_kept_number_is_made_by_others(scene: Scene) -> None:
    os.setxattr(scene.upper, "user.numbers", b"5:7")  # as the union keeps them, beside `user.number`
    assert symlink(scene, b"link", b"x") is None
    os.removexattr(scene.upper, "user.numbers")
    assert symlink(scene, b"link", b"x") is not None


NOBODY = 2**32 - 1
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
PLAIN = struct.pack("=IHHIHHIHHI", 2, 1, 7, NOBODY, 4, 1, NOBODY, 0x20, 0, NOBODY)  # which a mode says as well
NAMED = struct.pack("=IHHIHHIHHIHHIHHI", 2, 1, 6, NOBODY, 2, 4, 99, 4, 0, NOBODY, 0x10, 4, NOBODY, 0x20, 0, NOBODY)


def set_acl(
    scene: Scene, number: int, acl: bytes, *, name: str = ACCESS, flags: int = 0, uid: int = 0, room: int = 0
) -> bool:
    body = struct.pack("=II", room or len(acl), flags) + name.encode() + b"\0" + acl
    found = scene.rig.ask(SETXATTR, number, body, uid)
    assert found in (None, (0, b""))
    return found is not None


def test_an_acl_of_a_new_file_is_set_with_the_mode_that_follows(scene: Scene) -> None:
    number = make(scene)
    assert set_acl(scene, number, PLAIN)
    assert ((scene.upper / "new").stat().st_mode, os.listxattr(scene.upper / "new")) == (0o100710, [])
    assert set_acl(scene, number, NAMED)
    assert ((scene.upper / "new").stat().st_mode, os.getxattr(scene.upper / "new", ACCESS)) == (0o100640, NAMED)
    taken = scene.rig.lane.take(number)
    assert taken is not None
    os.close(taken.fd)
    assert taken.mode == 0o100640


def test_an_acl_of_a_directory_is_set_and_its_mode_told_of(scene: Scene) -> None:
    assert set_acl(scene, HOME, PLAIN)
    st = scene.upper.stat()
    assert (st.st_mode, [edit.shown for edit in scene.edits]) == (0o40710, [Owned(st.st_dev, st.st_ino, 0o40710, 0, 0)])
    assert told(scene.rig.ask(GETATTR, HOME, bytes(16)))[0] == 0o40710
    assert set_acl(scene, HOME, PLAIN) and len(scene.edits) == 1


def test_an_acl_that_is_more_than_one_call_is_for_others(scene: Scene) -> None:
    number, closed = make(scene, mode=0o2755), make(scene, b"closed")
    close(scene, closed)
    lower = scene.known("file")
    assert not set_acl(scene, number, PLAIN, uid=1000), "it takes setgid"
    assert not set_acl(scene, closed, PLAIN) and not set_acl(scene, lower, PLAIN)
    assert not set_acl(scene, number, b"nonsense") and not set_acl(scene, number, PLAIN, flags=1)
    assert not set_acl(scene, number, PLAIN, name=DEFAULT) and not set_acl(scene, number, PLAIN, room=1)
    assert not set_acl(scene, number, b"x", name="user.x")
    scene.upper.chmod(0o700)  # others did
    assert not set_acl(scene, HOME, PLAIN)
    assert [(path.name, path.stat().st_mode) for path in sorted(scene.upper.iterdir())] == [
        ("closed", 0o100644), ("new", 0o102755),
    ]  # fmt: skip


def test_a_default_acl_that_is_not_there_is_removed_without_an_error(scene: Scene) -> None:
    body = DEFAULT.encode() + b"\0"
    assert scene.rig.ask(REMOVEXATTR, HOME, body) == (0, b"")
    assert scene.rig.ask(REMOVEXATTR, HOME, body[:-1]) is None
    assert scene.rig.ask(REMOVEXATTR, HOME, ACCESS.encode() + b"\0") is None
    assert scene.rig.ask(REMOVEXATTR, make(scene), body) is None
    os.setxattr(scene.upper, DEFAULT, NAMED)
    assert scene.rig.ask(REMOVEXATTR, HOME, body) is None
    assert os.getxattr(scene.upper, DEFAULT) == NAMED
