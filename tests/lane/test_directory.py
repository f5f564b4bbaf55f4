"""Directories that the lane makes in the upper, and what is made in them at once."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.events import Durable, Edited, LaneEdit, LaneEvent
from tests.lane.rig import (
    CREATE,
    ENTRY,
    GETATTR,
    HEADER,
    HOME,
    LOOKUP,
    MKDIR,
    READDIR,
    Rig,
    dirents,
    number_of,
)  # fmt: skip


class Scene(Rig):
    """A directory of the upper is at hand; what is told of edits is kept."""

    def __init__(self, upper: Path, files: int = 16) -> None:
        super().__init__(files)
        self.upper = upper
        self.hand_over(HOME, upper, [b"old"])
        st = upper.stat()
        self.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        self.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        self.edits: list[Edited] = []
        self.lane.edited = self.edited

    def edited(self, edit: Edited) -> None:
        self.edits.append(edit)
        if edit.fd >= 0:
            self.fds.append(edit.fd)

    def mkdir(self, name: bytes, mode: int = 0o755, umask: int = 0o022, *, home: int = HOME, ids: int = 0) -> bytes:
        """Have a directory made; the answer's body, empty if that is for others."""
        body = struct.pack("=II", mode, umask) + name + b"\0"
        self.unique += 2
        self.kernel.send(HEADER.pack(HEADER.size + len(body), MKDIR, self.unique, home, ids, ids, 1, 0, 0) + body)
        if self.step() == LaneEvent.REQUEST:
            assert self.passed() is not None
            return b""
        found = self.answer()
        assert found is not None and found[:2] == (self.unique, 0)
        return found[2]


@pytest.fixture
def scene(upper: Path) -> Iterator[Scene]:
    with Scene(upper) as scene:
        yield scene


def shown(answer: bytes) -> tuple[int, int, int]:
    """The node, mode and links of an entry."""
    mode, links = struct.unpack_from("=II", answer, ENTRY.size + 60)
    return ENTRY.unpack_from(answer)[0], mode, links


def test_a_directory_is_made_and_told_of_with_a_descriptor_of_it(scene: Scene, upper: Path) -> None:
    number = shown(scene.mkdir(b"new", 0o777, 0o027))[0]
    st = (upper / "new").stat()
    assert (number, st.st_mode, os.listxattr(upper / "new")) == (number_of(upper / "new"), 0o40750, [])
    (edit,) = scene.edits
    assert edit[:4] == (LaneEdit.MADE_DIRECTORY, HOME, b"new", number)
    assert os.path.samestat(os.fstat(edit.fd), st)
    assert not os.get_inheritable(edit.fd)


def test_a_new_directory_shows_itself_and_is_empty(scene: Scene, upper: Path) -> None:
    number, mode, links = shown(scene.mkdir(b"new"))
    assert (mode, links) == (0o40755, (upper / "new").stat().st_nlink)
    found = scene.ask(GETATTR, number, bytes(16))
    assert found is not None and struct.unpack_from("=Q", found[1], 16)[0] == number
    assert scene.ask(LOOKUP, number, b"x\0") == (0, ENTRY.pack(0, 0, 5, 5, 0, 0) + bytes(88))
    listed = scene.ask(READDIR, number, struct.pack("=QQIIQII", 9, 0, 4096, 0, 0, 0, 0))
    assert listed is not None
    assert [(entry, name) for _, entry, _, name in dirents(listed[1], plus=False)] == [(number, b"."), (HOME, b"..")]


def test_files_and_directories_are_made_in_it_at_once(scene: Scene, upper: Path) -> None:
    number = shown(scene.mkdir(b"new"))[0]
    inner = shown(scene.mkdir(b"inner", home=number))[0]
    body = struct.pack("=IIII", os.O_WRONLY, 0o100644, 0o022, 0) + b"file\0"
    assert scene.ask(CREATE, inner, body) is not None
    assert (upper / "new/inner/file").is_file()
    assert [edit[:3] for edit in scene.edits] == [
        (LaneEdit.MADE_DIRECTORY, HOME, b"new"),
        (LaneEdit.MADE_DIRECTORY, number, b"inner"),
        (LaneEdit.MADE, inner, b"file"),
    ]
    assert scene.ask(READDIR, inner, struct.pack("=QQIIQII", 9, 0, 4096, 0, 0, 0, 0)) is None, "the union lists it"


def test_a_directory_shows_one_link_where_links_are_not_counted(scene: Scene) -> None:
    scene.lane.change_files(-1, Durable.SYNCED, "", writeback=True, static_links=True)
    number, _, links = shown(scene.mkdir(b"new"))
    found = scene.ask(GETATTR, number, bytes(16))
    assert found is not None
    assert (links, struct.unpack_from("=I", found[1], 16 + 64)[0]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        (b"old", 0),  # taken
        (b"hidden", 0),  # has a whiteout: the directory must be opaque
        (b".wh.x", 0),
        (b"a/b", 0),
        (b"..", 0),
        (b"new", 1000),  # somebody else's
    ],
)
def test_what_is_more_than_one_call_is_for_others(scene: Scene, upper: Path, name: bytes, ids: int) -> None:
    before = sorted(os.listdir(upper))
    assert not scene.mkdir(name, ids=ids)
    assert (sorted(os.listdir(upper)), scene.edits) == (before, [])


def test_a_name_that_was_made_is_taken_and_is_the_unions(scene: Scene) -> None:
    assert scene.mkdir(b"new")
    assert not scene.mkdir(b"new")
    assert scene.ask(LOOKUP, HOME, b"new\0") is None


def test_a_number_that_others_answer_for_is_not_given(scene: Scene, upper: Path) -> None:
    number = shown(scene.mkdir(b"new"))[0]
    scene.lane.drop(number)
    scene.lane.change(HOME, b"new", 0x7FFFFFFE)
    scene.lane.claim(number)  # as the union does when it takes the directory in
    (upper / "new").rmdir()
    (upper / "other").mkdir()  # which may have its inode
    (upper / "other").rmdir()
    assert not scene.mkdir(b"new") or number_of(upper / "new") != number
    assert len(scene.edits) == 1 + (upper / "new").exists()


def test_a_directory_of_a_filesystem_without_a_rank_is_made_by_others(upper: Path) -> None:
    st = upper.stat()
    with Rig() as rig:
        share = os.open(upper, os.O_RDONLY)
        rig.fds.append(share)
        assert rig.lane.directory(HOME, 1, [], [], [share])
        rig.lane.top(HOME, 0, single=True, makes=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid)
        rig.lane.change_files(-1, Durable.SYNCED, "", writeback=True)
        assert rig.ask(MKDIR, HOME, struct.pack("=II", 0o755, 0) + b"new\0") is None
        assert not (upper / "new").exists()


def test_a_directory_that_the_kernel_was_not_told_of_is_told_of_without_a_descriptor(scene: Scene, upper: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    body = struct.pack("=II", 0o755, 0) + b"new\0"
    scene.request(MKDIR, HOME, body)
    scene.kernel.shutdown(1)  # what is there is read still
    scene.kernel.close()
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        scene.step()
    assert (upper / "new").is_dir()
    assert [(edit.kind, edit.name, edit.fd) for edit in scene.edits] == [(LaneEdit.MADE_DIRECTORY, b"new", -1)]
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the kernel's end


def test_descriptors_that_nobody_has_taken_in_are_bounded(upper: Path) -> None:
    with Scene(upper, files=2) as scene:
        for name in (b"a", b"b", b"c"):
            scene.unique += 2
            body = struct.pack("=II", 0o755, 0) + name + b"\0"
            scene.kernel.send(HEADER.pack(HEADER.size + len(body), MKDIR, scene.unique, HOME, 0, 0, 1, 0, 0) + body)
        assert scene.step() == LaneEvent.REQUEST, "the third one is for others"
        assert sorted(os.listdir(upper)) == ["a", "b", "hidden", "old"]
        assert len(scene.edits) == 2
        assert scene.passed() is not None
        assert [scene.answer() is None for _ in range(3)] == [False, False, True]
        assert scene.mkdir(b"c")
