"""Layers of an image unpacked side by side, and shown by the mounts of each driver."""

import os
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from layerfs.lowers.kinds import open_tree
from layerfs.model import Stack
from layerfs.mounts.apply import mounted
from layerfs.oci.commit import difference_of
from layerfs.oci.digest import digest_of
from layerfs.oci.images import Images
from layerfs.oci.intake import FromSource, Intake, IntakeOptions
from layerfs.oci.produce import produce_layer
from layerfs.oci.sources import open_source
from layerfs.oci.tar import TarReader
from layerfs.oci.unpack import chain_ids
from layerfs.oci.view import RawView
from layerfs.snapshots.driver import LOCAL
from layerfs.snapshots.library import Store
from layerfs.store import rows
from layerfs.union.union import Union
from tests.host import require
from tests.oci.image import Made
from tests.oci.tars import END, directory, file, header, link, look, pax
from tests.oci.test_intake import take


def test_chain_ids_are_those_of_the_specification() -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    assert chain_ids([]) == []
    assert chain_ids([one, two]) == [one, digest_of(f"{one} {two}".encode())]


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar"])
def test_layers_that_need_those_below_wait_for_them(driver: str, store: Store, scratch: Path) -> None:
    """Whiteouts of what is not there, parents without an entry, and links down are right however layers overtake."""
    layers = [directory(b"d", mode=0o711, uid=7) + file(b"d/0", bytes(3_000_000)) + END]
    layers += [
        file(b"d/%d" % n, b"x")
        + link(b"l%d" % n, b"d/%d" % (n - 1))
        + file(b"no/.wh.x")
        + file(b"d/.wh.%d" % (n - 2))
        + END
        for n in range(1, 12)
    ]
    take(store, Made(layers).layout(scratch / "i"), driver=driver)
    snapshots = store.snapshotter(driver)
    top = chain_ids([digest_of(layer) for layer in layers])[-1]
    stack = snapshots.stack(top)
    with RawView(open_tree(stack.lowers[0], 0)) as view:
        assert set(view.names(b"")) == {b"d", b"l11"}
        assert set(view.names(b"d")) == {b"11", b"10", b"9"}
        seen = view.look(b"d")
    assert seen is not None
    assert (seen.member.mode, seen.member.uid, stack.lowers[0].endswith(b".xar")) == (0o711, 7, driver == "xar")


def test_interrupt_leaves_nothing_that_was_begun(store: Store, scratch: Path) -> None:
    """The thread that unpacked went on, and its active snapshot stayed."""
    layer = file(b"f", os.urandom(8_000_000)) + END
    sent: list[int] = []

    def progress(word: str, *_: object) -> None:
        if word == "unpacking" and not sent:
            sent.append(signal.SIGINT)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with open_source(bytes(Made([layer]).layout(scratch / "i")), store.root) as source:
        root = source.roots()[0]
        intake = Intake(
            Images(store), FromSource(source), IntakeOptions(snapshotter=store.snapshotter("overlay")), progress
        )
        with pytest.raises(KeyboardInterrupt):
            intake.take(root.names, root.top)
    assert (sent, list(store.snapshotter("overlay").walk()), store.content.all()) == ([signal.SIGINT], [], [])


@pytest.mark.parametrize("parent", [directory(b"d"), b""])
def test_many_layers_cost_little_more_each(
    parent: bytes, store: Store, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer asked for every layer below, which looked at all below that: 200 layers took half a minute."""
    traced: list[int] = []
    opened: list[int] = []
    trace, open_union = rows.trace, Union.open

    def counted_trace(*asked: Any) -> Any:
        found = trace(*asked)
        traced.append(len(found[1]) if found is not None else 0)
        return found

    def counted_open(stack: Stack, *rest: Any, **more: Any) -> Union:
        opened.append(len(stack.lowers))
        return open_union(stack, *rest, **more)

    monkeypatch.setattr(rows, "trace", counted_trace)
    monkeypatch.setattr(Union, "open", counted_open)
    count = 40
    layers = [parent + file(b"d/%d" % number, b"x") + END for number in range(count)]
    take(store, Made(layers).layout(scratch / "i"), driver="overlay")
    assert len(traced) <= 2 * count
    if parent:  # nothing but the root is asked for, and the topmost layer says what that is
        assert sum(opened) <= count
    else:
        assert len(opened) <= 2 * count


OPAQUE, MINE = b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.xattr.user.overlay.redirect"


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar"])
def test_marks_of_an_overlay_in_a_container_are_content(driver: str, store: Store, scratch: Path) -> None:
    """They were refused, also in a layer that was committed from a snapshot in which an inner overlay worked."""
    require("fuse")
    whole = driver == "fuse"  # what the kernel does not show is refused: `target` has it
    marks = {OPAQUE: b"y"} | ({MINE: b"/etc"} if whole else {})
    inner = pax(marks) + directory(b"d") + (header(b"d/gone", b"3", mode=0o600) if whole else b"")
    layers = [directory(b"d") + file(b"d/below", b"b") + file(b"d/gone", b"g") + END, inner + file(b"d/new") + END]
    take(store, Made(layers).layout(scratch / "i"), driver=driver)
    snapshots = store.snapshotter(driver)
    top = chain_ids([digest_of(layer) for layer in layers])[-1]
    (scratch / "m").mkdir()
    with mounted(snapshots.view("view", top), scratch / "m"):
        found = look(scratch / "m")
    said = (("trusted.overlay.opaque", b"y"), *((("user.overlay.redirect", b"/etc"),) if whole else ()))
    assert found["d"].xattrs == said
    assert [found[f"d/{name}"].kind for name in ("below", "new", "gone")] == ["f", "f", "c" if whole else "f"]
    again = bytearray()
    produce_layer(difference_of(snapshots, top), again.extend)
    entries = {member.path: (member.kind, member.xattrs) for member in TarReader([bytes(again)])}
    assert entries[b"d/"] == (stat.S_IFDIR, {os.fsencode(name): value for name, value in said})
    assert entries.get(b"d/gone", (stat.S_IFCHR, {})) == (stat.S_IFCHR, {})
    assert (b"d/gone" in entries) is whole


@pytest.mark.parametrize("driver", ["overlay", "fuse", "xar"])
def test_marks_are_content_in_an_image_of_one_layer_too(driver: str, store: Store, scratch: Path) -> None:
    """The view was the layer's directory itself, where they have the names under which they are stored."""
    require("fuse")
    layer = pax({OPAQUE: b"y"}) + directory(b"d", mode=0o711) + file(b"d/f", b"f") + END
    take(store, Made([layer]).layout(scratch / "i"), driver=driver)
    (scratch / "m").mkdir()
    with mounted(store.snapshotter(driver).view("view", digest_of(layer), {LOCAL: "1"}), scratch / "m"):
        found = look(scratch / "m")
    assert sorted(found) == [".", "d", "d/f"]
    assert (found["d"].mode, found["d"].xattrs) == (0o711, (("trusted.overlay.opaque", b"y"),))
