"""Files of which a source tells, in the place of a directory of the host."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.lane.lane import ASK, DIRECTORY
from tests.lane.rig import (
    GETATTR,
    GETXATTR,
    HOME,
    LOOKUP,
    OPEN,
    RANK_SHIFT,
    READ,
    READDIRPLUS,
    READLINK,
    RELEASE,
    UNLINK,
    Rig,
    dirents,
    lookup,
)  # fmt: skip
from tests.lane.sources import FIRST, Source

NAMES = [b"plain", b"empty", b"link", b"sub", b"twice", b"pipe"]
PLACES = [0, 0, 0, DIRECTORY, 0, 0]
RANK = 9
WHOLE = struct.pack("=QQIIQII", 0, 0, 1 << 15, 0, 0, 0, 0)
NOTIFY_STORE = 4
XATTR = struct.pack("=II", 20, 0)


class Scene:
    """A rig with one directory that a source has."""

    def __init__(self, rig: Rig, place: Path, *, reads: bool = True) -> None:
        self.rig = rig
        self.source = Source(place, NAMES)
        self.source.reads = reads
        known = rig.lane.source(self.source.calls, RANK)
        assert known is not None
        self.share, self.device = known

    def hand_over(self, names: list[bytes] = NAMES, references: list[int] | None = None) -> None:
        places = [PLACES[NAMES.index(name)] for name in names]
        known = [NAMES.index(name) for name in names] if references is None else references
        assert self.rig.lane.directory(HOME, 1, names, places, [self.share], known)

    def number(self, name: bytes) -> int:
        return RANK << RANK_SHIFT | self.source.numbers[name]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "plain").write_bytes(b"hello")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("plain")
    (tmp_path / "sub").mkdir()
    (tmp_path / "twice").write_bytes(b"1")
    os.link(tmp_path / "twice", tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    with Rig() as rig:
        yield Scene(rig, tmp_path)


def test_numbers_begin_with_the_rank_of_the_source(scene: Scene) -> None:
    scene.hand_over()
    assert scene.number(b"plain") == RANK << RANK_SHIFT | FIRST
    for name, size in ((b"plain", 5), (b"empty", 0), (b"link", 5)):
        assert lookup(scene.rig, name) == (scene.number(name), size)
    assert lookup(scene.rig, b"absent") == (0, 0)


@pytest.mark.parametrize("name", [b"sub", b"twice", b"pipe"])
def test_directories_hard_links_and_the_like_are_for_others(scene: Scene, name: bytes) -> None:
    scene.hand_over()
    assert lookup(scene.rig, name) is None


def test_an_empty_file_with_attributes_may_stand_for_something_else(scene: Scene) -> None:
    scene.source.has_xattrs |= {b"empty", b"plain"}
    scene.hand_over()
    assert lookup(scene.rig, b"empty") is None
    assert lookup(scene.rig, b"plain") == (scene.number(b"plain"), 5)


@pytest.mark.parametrize("number", [0, 1, 1 << RANK_SHIFT, 2**64 - 1])
def test_a_number_that_does_not_fit_is_for_others(scene: Scene, number: int) -> None:
    scene.source.numbers[b"plain"] = number
    scene.hand_over()
    assert lookup(scene.rig, b"plain") is None
    assert lookup(scene.rig, b"link") is not None


def test_two_files_with_one_number_are_not_both_the_lanes(scene: Scene) -> None:
    scene.source.numbers[b"link"] = scene.source.numbers[b"plain"]
    scene.hand_over()
    assert lookup(scene.rig, b"plain") is not None
    assert lookup(scene.rig, b"link") is None
    scene.source.numbers[b"plain"] += 1
    found = scene.rig.ask(GETATTR, RANK << RANK_SHIFT | FIRST, bytes(16))
    assert found is None, "another file was shown under the number"


def test_names_without_references_and_refused_ones_are_for_others(scene: Scene) -> None:
    scene.hand_over([b"plain", b"empty"], [2**64 - 1, 77])
    assert lookup(scene.rig, b"plain") is None
    assert scene.source.asked == []
    assert lookup(scene.rig, b"empty") is None
    assert scene.source.asked == [77]
    assert scene.rig.lane.directory(HOME + 1, 1, [b"plain"], [0], [scene.share])
    assert scene.rig.ask(LOOKUP, HOME + 1, b"plain\0") is None


def test_a_share_that_no_source_has_is_refused(scene: Scene) -> None:
    for share in (scene.share - 1, -(2**31)):
        assert not scene.rig.lane.directory(HOME, 1, [b"plain"], [0], [share], [0])
    scene.hand_over()


def test_attributes_are_asked_for_each_time_and_only_of_the_same_file(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    (scene.source.place / "plain").write_bytes(b"longer")
    answer = scene.rig.ask(GETATTR, found[0], bytes(16))
    assert answer is not None and struct.unpack_from("=QQ", answer[1], 16) == (found[0], 6)
    (scene.source.place / "plain").unlink()
    assert scene.rig.ask(GETATTR, found[0], bytes(16)) is None


def test_what_has_no_attributes_says_so(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    assert scene.rig.ask(GETXATTR, found[0], XATTR + b"user.x\0") == (errno.ENODATA, b"")
    assert scene.rig.ask(GETXATTR, found[0], XATTR + b"trusted.x\0") is None
    scene.source.has_xattrs.add(b"plain")
    assert scene.rig.ask(GETXATTR, found[0], XATTR + b"user.x\0") is None


def test_a_link_is_read_unless_it_is_longer_than_a_path(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"link")
    assert found is not None
    assert scene.rig.ask(READLINK, found[0]) == (0, b"plain")
    scene.source.link_length = 4096
    assert scene.rig.ask(READLINK, found[0]) is None


def test_a_listing_tells_of_the_files_and_numbers_the_directories(scene: Scene) -> None:
    scene.hand_over(NAMES[:4])
    found = scene.rig.ask(READDIRPLUS, HOME, WHOLE)
    assert found is not None
    told = {name: (node, number) for node, number, _, name in dirents(found[1], plus=True)}
    for name in (b"plain", b"empty", b"link"):
        assert told[name] == (scene.number(name), scene.number(name))
    assert told[b"sub"] == (0, scene.number(b"sub"))


def test_a_directory_shows_what_its_source_says(scene: Scene) -> None:
    scene.hand_over()
    st = (scene.source.place / "sub").lstat()

    def show(reference: int) -> None:
        scene.rig.lane.top(HOME, 0, single=True, mode=st.st_mode, uid=st.st_uid, gid=st.st_gid, reference=reference)

    show(NAMES.index(b"sub"))
    found = scene.rig.ask(GETATTR, HOME, bytes(16))
    assert found is not None and struct.unpack_from("=Q", found[1], 16)[0] == HOME
    show(2**64 - 1)
    assert scene.rig.ask(GETATTR, HOME, bytes(16)) is None


def test_what_changes_a_file_is_for_others(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    assert scene.rig.ask(UNLINK, HOME, b"plain\0") is None
    assert scene.rig.ask(OPEN, found[0], struct.pack("=II", os.O_RDWR, 0)) is None
    taken = scene.rig.lane.take(found[0])
    assert taken is not None and (taken.device, taken.number, taken.fd) == (scene.device, FIRST, -1)
    assert scene.rig.lane.give(taken)
    assert lookup(scene.rig, b"plain") == found


def test_a_dropped_directory_asks_no_source(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    asked = len(scene.source.asked)
    scene.rig.lane.change(HOME, b"link", ASK)
    assert lookup(scene.rig, b"link") is None
    scene.rig.lane.drop(HOME)
    assert scene.rig.ask(GETATTR, found[0], bytes(16)) is None
    assert len(scene.source.asked) == asked


def opened(scene: Scene, name: bytes) -> int:
    """Look a file up and open it; its data came along, as a notification."""
    found = lookup(scene.rig, name)
    assert found is not None
    unique = scene.rig.request(OPEN, found[0], struct.pack("=II", os.O_RDONLY, 0))
    scene.rig.step()
    stored = scene.rig.kernel.recv(1 << 17)
    assert struct.unpack_from("=4xi8xQ", stored) == (NOTIFY_STORE, found[0])
    assert stored[40:] == (scene.source.place / os.fsdecode(name)).read_bytes()
    answer = scene.rig.answer()
    assert answer is not None and answer[:2] == (unique, 0)
    return found[0]


def read(scene: Scene, number: int, offset: int, size: int) -> bytes | None:
    found = scene.rig.ask(READ, number, struct.pack("=QQIIQII", number, offset, size, 0, 0, 0, 0))
    assert found is None or found[0] == 0
    return None if found is None else found[1]


def test_a_file_is_opened_with_its_data_and_read(scene: Scene) -> None:
    scene.hand_over()
    number = opened(scene, b"plain")
    assert read(scene, number, 0, 100) == b"hello"
    assert read(scene, number, 3, 1) == b"l"
    assert read(scene, number, 5, 100) == b""
    assert scene.rig.ask(OPEN, number, bytes(8)) is not None
    for _ in range(2):
        assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    assert scene.rig.ask(RELEASE, number, bytes(24)) is None
    assert read(scene, number, 0, 100) is None, "nobody has it open"


def test_a_file_that_is_open_is_taken_with_its_opens(scene: Scene) -> None:
    scene.hand_over()
    number = opened(scene, b"plain")
    taken = scene.rig.lane.take(number)
    assert taken is not None and (taken.opens, taken.fd, taken.stored) == (1, -1, True)


def test_what_the_kernel_opens_by_itself_is_read(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    scene.rig.lane.no_open()
    answer = scene.rig.ask(READ, found[0], struct.pack("=QQIIQII", 0, 1, 100, 0, 0, 0, 0))
    assert answer == (0, b"ello")


def test_a_source_without_data_leaves_the_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"hello")
    with Rig() as rig:
        scene = Scene(rig, tmp_path, reads=False)
        scene.hand_over([b"plain"])
        found = lookup(rig, b"plain")
        assert found is not None
        assert rig.ask(OPEN, found[0], bytes(8)) is None


def test_where_data_cannot_be_had_others_open_and_read(scene: Scene) -> None:
    scene.hand_over()
    scene.source.most = 4
    found = lookup(scene.rig, b"plain")
    assert found is not None
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is None, "the error is to be that of open(2)"
    scene.source.most = 5
    taken = scene.rig.lane.take(found[0])
    assert taken is not None and not taken.stored and scene.rig.lane.give(taken._replace(stored=True))
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is not None
    scene.source.most = 4
    assert read(scene, found[0], 0, 100) is None


def test_a_file_with_holes_and_one_that_changed_are_for_others(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    (scene.source.place / "plain").chmod(0o600)
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is None
    assert scene.rig.ask(GETATTR, found[0], bytes(16)) is not None
    os.truncate(scene.source.place / "plain", 1 << 20)
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is None


def test_nothing_is_opened_where_the_union_could_hold_no_more(scene: Scene) -> None:
    scene.hand_over()
    found = lookup(scene.rig, b"plain")
    assert found is not None
    scene.rig.lane.opens = False
    assert scene.rig.ask(OPEN, found[0], bytes(8)) is None


def test_there_may_be_as_many_sources_as_ranks(scene: Scene) -> None:
    assert scene.rig.lane.source(scene.source.calls, 1 << 12) is None
    found = [scene.rig.lane.source(scene.source.calls, RANK) for _ in range(4100)]
    assert found[0] is not None and found[-1] is None
