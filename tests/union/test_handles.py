"""Held directories: few stay open, and none is closed under whoever uses it."""

import errno
import os
import resource
from pathlib import Path

import pytest

from layerfs.union.handles import Handles
from layerfs.union.layers import DirTree, Part
from tests.oracle.trees import file
from tests.union.box import Box


def tree_of(place: Path, names: int) -> tuple[DirTree, list[Part]]:
    for index in range(names):
        (place / str(index)).mkdir()
    tree = DirTree(os.fsencode(place), 1)
    root = Part(tree, None, b"", tree.root())
    return tree, [Part(tree, root, b"%d" % index) for index in range(names)]


def is_at(part: Part, fd: int) -> bool:
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == part.name.decode()


def test_directory_opened_last_survives_when_all_others_were_just_used(scratch: Path) -> None:
    """It was closed by its own opening: every other one had its second chance coming."""
    tree, parts = tree_of(scratch, 6)
    handles = Handles(4)
    for part in parts[:4]:
        handles.fd(part)
        handles.fd(part)
    assert is_at(parts[4], handles.fd(parts[4]))
    assert is_at(parts[5], handles.fd(parts[5]))
    assert sum(part.fd >= 0 for part in parts) <= 4
    handles.close()
    tree.close()


def test_held_nests(scratch: Path) -> None:
    """The end of an inner hold ended the outer one too, and its descriptors were closed while in use."""
    tree, parts = tree_of(scratch, 8)
    handles = Handles(2)
    with handles.held():
        first = handles.fd(parts[0])
        with handles.held():
            handles.fd(parts[1])
        for part in parts[2:]:
            handles.fd(part)
        assert is_at(parts[0], first)
    handles.close()
    tree.close()


def test_descriptors_that_run_out_cost_the_coldest_directories(scratch: Path) -> None:
    tree, parts = tree_of(scratch, 300)
    handles = Handles(1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, hard))
    try:
        for part in parts:
            assert is_at(part, handles.fd(part))
        with handles.held(), pytest.raises(OSError) as caught:
            for part in parts:
                handles.fd(part)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        handles.close()
        tree.close()
    assert caught.value.errno == errno.EMFILE


def test_deep_and_wide_tree_through_sixteen_handles(scratch: Path) -> None:
    deep = b"/".join(b"d%d" % depth for depth in range(40))
    wide = {b"w%d/x/y" % index: file(b"%d" % index) for index in range(60)}
    layers = [{deep + b"/f": file(b"deep")}, wide, {b"w%d/x/z" % index: file(b"z") for index in range(60)}]
    with Box(scratch, *layers, limit=16) as box:
        before = box.tree()
        box.rename(b"w1/x/y", b"w2/x/new")
        box.rename(b"w3", deep + b"/w3")
        box.unlink(deep + b"/f")
        box.create(deep + b"/g", b"g")
        after = box.tree()
        assert box.is_clean()
        assert len(os.listdir("/proc/self/fd")) < 60
        assert box.again().tree() == after
    moved = {deep + b"/" + path: what for path, what in before.items() if path == b"w3" or path.startswith(b"w3/")}
    expected = {path: what for path, what in before.items() if path != b"w3" and not path.startswith(b"w3/")}
    expected |= moved | {deep + b"/g": b"g", b"w2/x/new": b"1"}
    del expected[deep + b"/f"], expected[b"w1/x/y"]
    assert after == expected
