"""What the lane answers from a union, and how a file changes hands. Sockets stand for the device."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerfs.fuse.tables import Tables
from layerfs.union.attrs import Change
from layerfs.union.inodes import Directory, File
from layerfs.union.options import UnionOptions
from tests.lane.rig import ENTRY, FORGET, GETATTR, LOOKUP, OPEN, READ, RELEASE, Rig
from tests.oracle.trees import file
from tests.union.box import Box

TOP = {b"d/top": file(b"top"), b"d/gone": file(b"gone"), b"d/sub/x": file(b"x")}
BELOW = {b"d/below": file(b"below"), b"d/top": file(b"hidden")}


class Scene:
    """A union with a lane before it; the directory `d` is handed over and remembered."""

    def __init__(self, scratch: Path) -> None:
        self.box = Box(scratch, TOP, BELOW, upper={b"d/own": file(b"own")})
        self.union = self.box.union
        self.rig = Rig()
        self.fetched: list[list[bytes]] = []
        self.tables = Tables(self.union, self.rig.lane, lambda _, names: self.fetched.append(names))
        node, _ = self.union.lookup(1, b"d")
        assert isinstance(node, Directory)
        self.union.remember(node)
        self.node = node
        self.union.names(node.ino)
        self.tables.offer(node)

    def close(self) -> None:
        self.rig.close()
        self.box.close()

    def lookup(self, name: bytes) -> int | None:
        """The number that the lane answers; None if it asks the union."""
        found = self.rig.ask(LOOKUP, self.node.ino, name + b"\0")
        return None if found is None else int(ENTRY.unpack_from(found[1])[0])

    def forget(self, number: int, count: int = 1) -> None:
        self.rig.request(FORGET, number, struct.pack("=Q", count))
        if self.rig.step() == 1:
            self.rig.passed()
            self.union.forget(number, count)
        self.tables.look()

    def open(self, number: int) -> None:
        assert self.rig.ask(OPEN, number, bytes(8)) is not None


@pytest.fixture
def scene(scratch: Path) -> Iterator[Scene]:
    scene = Scene(scratch)
    try:
        yield scene
    finally:
        scene.close()


def number_of(scene: Scene, name: bytes) -> int:
    number = scene.lookup(name)
    assert number
    return number


def test_the_lane_gives_a_file_the_number_that_the_union_gives_it(scene: Scene) -> None:
    for name in (b"top", b"below"):
        number = number_of(scene, name)
        node, _ = scene.union.lookup(scene.node.ino, name)
        assert node.ino == number


@pytest.mark.parametrize("name", [b"own", b"sub"])
def test_files_of_the_upper_and_directories_are_the_unions(scene: Scene, name: bytes) -> None:
    assert scene.lookup(name) is None


def test_absent_names_are_answered_until_they_are_made(scene: Scene) -> None:
    assert scene.lookup(b"new") == 0
    scene.union.mkdir(scene.node.ino, b"new", 0o755, scene.box.caller)
    assert scene.lookup(b"new") is None
    scene.union.rmdir(scene.node.ino, b"new")
    assert scene.lookup(b"new") == 0


def test_a_file_becomes_a_node_with_its_lookups_when_the_union_is_asked(scene: Scene) -> None:
    number = number_of(scene, b"top")
    scene.lookup(b"top")
    node = scene.union.node(number)
    assert (node.lookups, node.name) == (2, b"top")
    assert scene.lookup(b"top") is None, "both would answer for it"
    assert scene.rig.ask(GETATTR, number, bytes(16)) is None
    scene.forget(number, 2)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(number)
    assert scene.lookup(b"top") == number, "nobody has it any more"


def test_an_open_file_is_copied_up_for_all_who_have_it_open(scene: Scene) -> None:
    number = number_of(scene, b"below")
    scene.open(number)
    scene.union.set_attributes(number, Change(size=2))
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 100, 0) == b"be"
    assert scene.rig.ask(READ, number, struct.pack("=QQIIQII", number, 0, 100, 0, 0, 0, 0)) is None
    assert scene.rig.ask(RELEASE, number, bytes(24)) is None
    scene.union.release(number)
    scene.forget(number)


def test_a_file_goes_back_to_the_lane_when_it_was_closed_and_no_handler_waits(scene: Scene) -> None:
    number = number_of(scene, b"below")
    scene.union.open_file(number, os.O_RDONLY)
    scene.union.release(number)
    assert scene.lookup(b"below") is None
    scene.union.remember(scene.union.node(number))
    scene.tables.closed(number)
    assert scene.rig.lane.outstanding == 1 and scene.lookup(b"below") == number
    taken = scene.rig.lane.take(number)
    assert taken is not None and (taken.lookups, taken.name) == (3, b"below")
    assert scene.rig.lane.give(taken) and not scene.rig.lane.give(taken)
    assert not scene.rig.lane.give(taken._replace(name=b"nothing", number=taken.number + 1))
    assert not scene.rig.lane.give(taken._replace(parent=4711, number=taken.number + 1))
    scene.forget(number, 3)


def test_an_unlinked_file_lives_on_while_the_kernel_knows_it(scene: Scene) -> None:
    number = number_of(scene, b"gone")
    scene.open(number)
    scene.union.unlink(scene.node.ino, b"gone")
    assert scene.lookup(b"gone") == 0
    assert scene.union.attributes(number).st_nlink == 0
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 100, 0) == b"gone"


def test_a_file_that_was_exchanged_below_is_stale_for_the_union_too(scene: Scene) -> None:
    number = number_of(scene, b"top")
    place = os.path.join(scene.box.layer(1), b"d")
    Path(os.fsdecode(place), "new").write_bytes(b"another")
    os.rename(os.path.join(place, b"new"), os.path.join(place, b"top"))
    assert scene.rig.ask(GETATTR, number, bytes(16)) is None
    with pytest.raises(OSError, match="Stale"):
        scene.union.attributes(number)


def test_a_changed_mode_is_noticed_at_open_as_without_a_lane(scene: Scene) -> None:
    number = number_of(scene, b"top")
    os.chmod(os.path.join(scene.box.layer(1), b"d/top"), 0o600)
    assert scene.rig.ask(OPEN, number, bytes(8)) is None
    with pytest.raises(OSError, match="Stale"):
        scene.union.open_file(number, os.O_RDONLY)


def test_a_directory_outlives_its_forget_as_long_as_the_lane_has_a_file_of_it(scene: Scene) -> None:
    number, above = number_of(scene, b"top"), scene.node.ino
    scene.forget(above)
    assert isinstance(scene.union.node(number), File), "its directory is gone"
    scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(above)


def test_a_directory_goes_with_the_last_file_that_the_lane_had_of_it(scene: Scene) -> None:
    number, above = number_of(scene, b"top"), scene.node.ino
    scene.forget(above)
    assert scene.union.node(above)
    scene.forget(number)
    with pytest.raises(OSError, match="Stale"):
        scene.union.node(above)


def test_a_directory_of_a_layer_that_was_closed_is_opened_again_by_the_union(scene: Scene) -> None:
    scene.box.ov.handles.shrink(0)
    assert scene.lookup(b"top") is None
    node, _ = scene.union.lookup(scene.node.ino, b"top")
    scene.union.drop(node)
    assert scene.lookup(b"top") == node.ino


def test_a_renamed_directory_is_handed_over_anew(scene: Scene) -> None:
    number = number_of(scene, b"top")
    scene.union.rename(1, b"d", 1, b"moved")
    assert scene.lookup(b"top") is None
    assert scene.union.attributes(number).st_size == 3
    scene.tables.offer(scene.node)
    assert scene.lookup(b"below") is not None


@pytest.mark.parametrize("dropped", [False, True])
def test_names_keep_the_cookies_that_the_lane_gave_them_when_names_change(scene: Scene, dropped: bool) -> None:
    """A client that had read half of a listing from the kernel's cache missed a name."""
    names = scene.union.names(scene.node.ino)
    if dropped:
        scene.tables.drop(scene.node.ino)
    scene.union.unlink(scene.node.ino, names[0])
    listing = scene.union.listing(scene.node.ino)
    order = listing.keep_order()
    assert [name for _, name in order.since(4, listing.names)] == names[2:]


def test_who_begins_to_list_by_the_lane_misses_nothing_when_the_union_goes_on(scene: Scene) -> None:
    """What was made since somebody began to read by the union was left out."""
    listing, number = scene.union.listing(scene.node.ino), scene.node.ino
    assert len(list(listing.since(0))) == 5
    for count in range(3):
        scene.union.mkdir(number, b"new%d" % count, 0o755, scene.box.caller)
    scene.tables.drop(number)
    scene.tables.offer(scene.node)
    assert [name for _, name in listing.since(7)] == [b"new0", b"new1", b"new2"]


def test_who_renames_what_it_reads_is_not_given_it_again_when_the_directory_is_handed_over_anew(scene: Scene) -> None:
    """After a thousand renames of a program that reads what it renames, names came twice."""
    listing, number = scene.union.listing(scene.node.ino), scene.node.ino
    first = next(name for _, name in listing.since(0))
    scene.union.rename(number, first, number, b"renamed")
    scene.tables.drop(number)
    scene.tables.offer(scene.node)
    assert b"renamed" not in [name for _, name in listing.since(3)]
    assert b"renamed" in [name for _, name in listing.since(0)]


def test_nothing_is_handed_over_where_owners_are_translated(scratch: Path) -> None:
    with Box(scratch, TOP, options=UnionOptions(squash_uid=5)) as box:
        box.union.names(1)
        assert box.union.hand_over(box.union.root()) is None


def test_the_union_works_on_when_the_lane_is_closed(scene: Scene) -> None:
    scene.rig.lane.close()
    node, st = scene.union.lookup(scene.node.ino, b"top")
    assert st.st_size == 3
    scene.union.drop(node)


def test_a_directory_shows_its_share_of_the_upper_once_it_has_one(scratch: Path) -> None:
    with Box(scratch, TOP, BELOW, upper={}) as box:
        rig, node = Rig(), box.union.lookup(1, b"d")[0]
        assert isinstance(node, Directory)
        box.union.remember(node)
        box.union.names(node.ino)
        Tables(box.union, rig.lane, lambda _, __: None).offer(node)

        def shown() -> int | None:
            """The seconds of its mtime, if the lane answers."""
            found = rig.ask(GETATTR, node.ino, bytes(16))
            return None if found is None else int(struct.unpack_from("=Q", found[1], 16 + 32)[0])

        def expected() -> int:
            return box.union.attributes(node.ino).st_mtime_ns // 10**9

        try:
            assert shown() == expected()
            box.union.mkdir(node.ino, b"new", 0o755, box.caller)
            assert shown() == expected(), "the lower's share was shown"
            box.union.set_attributes(node.ino, Change(mtime_ns=5 * 10**9))
            assert shown() == expected() and expected() == 5
            box.union.set_attributes(node.ino, Change(mode=0o700))
            assert shown() is None
        finally:
            rig.close()


def test_the_union_answers_again_for_all_that_the_lane_had(scene: Scene) -> None:
    top, below = number_of(scene, b"top"), number_of(scene, b"below")
    scene.open(top)
    scene.tables.recall()
    assert (scene.union.node(top).lookups, scene.union.node(below).lookups) == (1, 1)
    handle = scene.union.data_handle(top)
    assert isinstance(handle, int) and os.pread(handle, 100, 0) == b"top"


def test_a_file_that_was_opened_again_and_not_read_is_opened_by_the_union_and_outlives_its_name(scene: Scene) -> None:
    number = number_of(scene, b"gone")
    scene.open(number)
    assert scene.rig.ask(RELEASE, number, bytes(24)) == (0, b"")
    scene.open(number)
    scene.union.unlink(scene.node.ino, b"gone")
    handle = scene.union.data_handle(number)
    assert isinstance(handle, int) and os.pread(handle, 100, 0) == b"gone"
    scene.union.release(number)
