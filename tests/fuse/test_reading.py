"""Directories that are read natively give the union the same as those that it reads itself."""

import os
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings

from layerfs.batch import directories
from layerfs.fuse import reading
from layerfs.fuse.prefetch_listings import ListingPrefetch
from layerfs.fuse.reading import NativeReader
from layerfs.model import Stack
from layerfs.sys import dirs
from layerfs.union.inodes import Directory
from layerfs.union.layers import Kind
from layerfs.union.options import UnionOptions
from layerfs.union.reading import Outcome, Reading
from layerfs.union.union import Union
from tests.host import require
from tests.oracle.strategies import worlds
from tests.oracle.trees import build, file
from tests.oracle.world import World
from tests.union.box import Box

Shown = dict[bytes, object]


def shown(union: Union, node: Directory) -> Shown:
    """Which layers have each name below a directory, in the order of its listing."""
    found: Shown = {}
    union.names(node.ino)
    assert node.listing is not None
    for name, where in list(node.listing.names.items()):
        parts = where if isinstance(where, tuple) else (where,)
        found[name] = [(part.tree.index, part.path()) for part in parts]
        if isinstance(where, tuple):
            child, _ = union.lookup(node.ino, name)
            assert isinstance(child, Directory)
            union.remember(child)
            found[name + b"/"] = list(shown(union, child).items())
    found[b"/"] = sorted(node.listing.whiteouts)
    return found


def both(stack: Stack) -> tuple[Shown, Shown]:
    results = []
    for natively in (False, True):
        with closing(Union.open(stack, UnionOptions())) as union:
            if natively:
                union.read_with(lambda jobs, _: NativeReader().read(jobs))
            results.append(shown(union, union.directory(1)))
    return results[0], results[1]


@given(worlds(privileged=True))
@settings(max_examples=40)
def test_any_stack_has_the_same_names_in_the_same_order(world: World) -> None:
    require("root")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as directory:
        layers = [Path(directory) / f"l{index}" for index in range(len(world.lowers))]
        for path, layer in zip(layers, world.lowers, strict=True):
            build(os.fsencode(path), layer, world.marks)
        own, natively = both(Stack(tuple(map(os.fsencode, layers))))
    assert natively == own


def test_an_upper_is_read_so_too(scratch: Path) -> None:
    with Box(scratch, {b"d/low": file(b"1"), b"d/gone": file(b"1")}, upper={b"d/own": file(b"2")}) as box:
        box.unlink(b"d/gone")
    own, natively = both(box.stack)
    assert natively == own
    assert set(dict(own[b"d/"])) == {b"low", b"own", b"/"}  # type: ignore[call-overload]


def test_whoever_may_not_read_without_a_trace_reads_with_one(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be opened natively is opened by the union, which knows what else to try."""
    opened: list[bytes] = []
    usual = dirs.open_directory

    def open_directory(at: int, name: bytes) -> int:
        opened.append(name)
        return usual(at, name)

    with Box(scratch, {b"d/x": file(b"1")}) as box:
        tree = box.ov.trees[-1]
        monkeypatch.setattr(dirs, "open_directory", open_directory)
        found, absent = NativeReader().read(
            [Reading(tree, tree.root(), b"d", True), Reading(tree, tree.root(), b"no", True)]
        )
        assert list(found[2]) == [(b"x", Kind.OTHER)]
        os.close(found[0])
        assert isinstance(absent[3], FileNotFoundError)
    assert opened == [b"no"]


def test_an_error_of_one_closes_what_others_have_opened(scratch: Path) -> None:
    with Box(scratch, {b"d/x": file(b"1")}, {b"d/y": file(b"1")}) as box:
        node, _ = box.union.lookup(1, b"d")
        assert isinstance(node, Directory)
        box.union.read_with(lambda jobs, _: [*NativeReader().read(jobs[:-1]), _failed(jobs[-1])])
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="Input/output"):
            box.union.names(node.ino)
        assert set(os.listdir("/proc/self/fd")) == before


def _failed(job: Reading) -> Outcome:
    _, marks, entries, _ = Reading(job.tree, job.tree.root(), b"", job.scan)()
    return -1, marks, entries, OSError(5, os.strerror(5))


def test_a_walk_is_followed_once_a_disk_was_waited_for(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    is_cold = False

    def read_cold(wanted: list[tuple[int, bytes]]) -> tuple[list[directories.Listed], bool]:
        return directories.read(wanted)[0], is_cold

    monkeypatch.setattr(reading, "read", read_cold)

    def ask(_: object, root: int, path: bytes) -> bool:
        asked.append(path)
        return True

    monkeypatch.setattr(directories.Ahead, "ask", ask)
    layer = {b"%d/f" % number: file(b"1") for number in range(8)}
    with Box(scratch, layer, writable=False) as box, closing(ListingPrefetch(box.union.trees)) as prefetch:
        prefetch.natively = NativeReader()
        box.union.read_with(prefetch.together)

        def load(name: bytes) -> None:
            node, _ = box.union.lookup(1, name)
            assert isinstance(node, Directory)
            box.union.remember(node)
            box.union.names(node.ino)
            prefetch.loaded(node)

        order = list(box.union.names(1))
        load(order[0])
        load(order[1])
        assert asked == []
        is_cold = True
        load(order[2])
        load(order[3])
        assert asked == order[4:6]
        load(order[4])
        assert asked == order[4:7]
