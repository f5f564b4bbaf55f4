"""Differences as layers: applied to the parents they give the snapshot, whoever wrote it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerfs.errors import Corrupt
from layerfs.oci.produce import Difference, Produced, produce_layer
from layerfs.oci.tar import HARD_LINK, TarReader
from layerfs.oci.target import TargetForm
from tests.host import require
from tests.oci.tars import END, apply, below, directory, file, link, look, symlink

BASE = b"".join(
    [
        directory(b"d", mode=0o750, uid=3), file(b"d/a", b"old a"), file(b"d/b", b"old b"), directory(b"d/s"),
        file(b"d/s/x", b"x"), file(b"keep", b"k"), symlink(b"lnk", b"keep"), file(b"h1", b"h"), link(b"h2", b"h1"),
        directory(b"gone/deep"), file(b"gone/deep/f"), directory(b"full"), file(b"full/1", b"1"),
        file(b"full/2", b"2"), END,
    ]
)  # fmt: skip


def produce(difference: Difference, compression: str = "") -> tuple[bytes, Produced]:
    out = bytearray()
    done = produce_layer(difference, out.extend, compression)
    return bytes(out), done


def names(layer: bytes) -> list[str]:
    return [os.fsdecode(member.path) for member in TarReader([layer])]


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """What a layer can say; times of directories count only where they are said, and so not here."""
    return {
        path: (e.kind, e.mode, e.owner, e.content, e.rdev, e.kind == "d" or e.mtime_ns, e.xattrs)
        for path, e in look(root).items()
    }


def modify(root: Path) -> None:
    (root / "d/a").write_bytes(b"new a")
    (root / "d/b").unlink()
    (root / "d/s/new").write_bytes(b"n")
    (root / "keep").chmod(0o4711)
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "full")
    (root / "full").mkdir(mode=0o700)
    (root / "full/3").write_bytes(b"3")
    (root / "lnk").unlink()
    (root / "lnk").mkdir()
    os.link(root / "h1", root / "h3")
    os.mknod(root / "dev", 0o20600, os.makedev(1, 3))
    os.mkfifo(root / "fifo")
    (root / "odd\udcff").symlink_to("t" * 300)
    os.utime(root / "d/a", ns=(1, -1_500_000_000))
    os.setxattr(root / "d/a", "user.x", b"\0\xff")
    os.chown(root / "d/a", 3_000_000, 7)
    with (root / "holes").open("wb") as out:
        out.seek(5 << 20)
        out.write(b"end")
        out.truncate(9 << 20)
    (root / ("long" * 20)).mkdir()
    (root / ("long" * 20) / ("name" * 50)).write_bytes(b"l")


@contextmanager
def mounted(lower: Path, place: Path, options: str = "") -> Iterator[Path]:
    """A writable kernel overlay; its upper is place/upper."""
    require("root", "kernel overlay")
    for name in ("upper", "work", "merged"):
        (place / name).mkdir()
    stack = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work{options}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", stack, place / "merged"], check=True)
    try:
        yield place / "merged"
    finally:
        subprocess.run(["umount", place / "merged"], check=True)


Snapshot = tuple[Difference, dict[str, tuple[object, ...]]]


def by_overlay(place: Path, change: Callable[[Path], None], options: str = "") -> Snapshot:
    apply(BASE, place / "base")
    with mounted(place / "base", place, options) as root:
        change(root)
        shown = facts(root)
    return Difference(bytes(place / "upper"), below=[bytes(place / "base")]), shown


def by_copy(place: Path, change: Callable[[Path], None]) -> Snapshot:
    apply(BASE, place / "base", form=TargetForm.PLAIN)
    subprocess.run(["cp", "-a", place / "base", place / "after"], check=True)
    change(place / "after")
    return Difference(bytes(place / "after"), TargetForm.PLAIN, [bytes(place / "base")]), facts(place / "after")


@pytest.mark.parametrize("maker", [by_overlay, by_copy])
def test_difference_applied_gives_the_snapshot(maker: Callable[..., Snapshot], scratch: Path) -> None:
    difference, wanted = maker(scratch, modify)
    layer, done = produce(difference)
    assert produce(difference)[0] == layer
    assert done.left_out == ()
    apply(BASE, scratch / "again", form=TargetForm.PLAIN)
    apply(layer, scratch / "again", form=TargetForm.PLAIN)
    assert facts(scratch / "again") == wanted
    assert (scratch / "again/holes").stat().st_blocks * 512 < 1 << 20
    assert (scratch / "again/h1").stat().st_ino == (scratch / "again/h3").stat().st_ino


def test_layer_in_an_upper_gives_the_same_layer_again(scratch: Path) -> None:
    difference, _ = by_overlay(scratch, modify)
    layer, _ = produce(difference)
    with below(scratch / "base") as lower:
        apply(layer, scratch / "again", below=lower)
    assert produce(Difference(bytes(scratch / "again"), below=[bytes(scratch / "base")]))[0] == layer


def rename(root: Path) -> None:
    os.rename(root / "d", root / "moved")
    (root / "moved/new").write_bytes(b"n")
    os.rename(root / "full", root / "gone/full")
    (root / "keep").chmod(0o600)


@pytest.mark.parametrize("options", ["", ",redirect_dir=on,metacopy=on"])
def test_renamed_directories_are_written_whole(options: str, scratch: Path) -> None:
    def change(root: Path) -> None:
        rename(root) if options else subprocess.run(["mv", root / "d", root / "moved"], check=True)

    difference, wanted = by_overlay(scratch, change, options)
    layer, _ = produce(difference)
    apply(BASE, scratch / "again", form=TargetForm.PLAIN)
    apply(layer, scratch / "again", form=TargetForm.PLAIN)
    assert facts(scratch / "again") == wanted


def test_opaque_directory_is_said_by_its_marker(scratch: Path) -> None:
    difference, _ = by_overlay(scratch, modify)
    found = names(produce(difference)[0])
    assert found[found.index("full/") : found.index("full/") + 3] == ["full/", "full/.wh..wh..opq", "full/3"]
    assert {".wh.gone", "d/.wh.b"} <= set(found)


def test_every_entry_comes_behind_its_parents(scratch: Path) -> None:
    for maker in (by_overlay, by_copy):
        place = scratch / maker.__name__
        place.mkdir()
        found = names(produce(maker(place, modify)[0])[0])
        assert len(set(found)) == len(found)
        for name in found:
            parent = os.path.dirname(name.rstrip("/"))
            assert not parent or found.index(parent + "/") < found.index(name)


def test_unchanged_snapshot_is_an_empty_layer(scratch: Path) -> None:
    for maker in (by_overlay, by_copy):
        place = scratch / maker.__name__
        place.mkdir()
        assert produce(maker(place, lambda root: None)[0])[0] == END


def test_what_a_layer_cannot_say_is_reported(scratch: Path) -> None:
    """A file really named `.wh.keep` was committed as the deletion of `keep`."""

    def change(root: Path) -> None:
        (root / ".wh.keep").write_bytes(b"real")
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(root / "socket"))

    for maker in (by_overlay, by_copy):
        place = scratch / maker.__name__
        place.mkdir()
        layer, done = produce(maker(place, change)[0])
        assert layer == END
        assert sorted(path for path, _ in done.left_out) == [b".wh.keep", b"socket"]


def test_bottom_layer_is_written_whole(scratch: Path) -> None:
    apply(BASE, scratch / "base")
    overlay, _ = produce(Difference(bytes(scratch / "base")))
    plain, _ = produce(Difference(bytes(scratch / "base"), TargetForm.PLAIN))
    assert overlay == plain
    assert len(names(plain)) == 15
    links = [(m.path, m.target) for m in TarReader([plain]) if m.kind == HARD_LINK]
    assert links == [(b"h2", b"h1")]


def test_image_as_a_snapshot(scratch: Path) -> None:
    """The xar driver keeps what a snapshot changes in an image."""
    from layerfs.pysquashfs import write_tree

    _, wanted = by_overlay(scratch, modify)
    write_tree(scratch / "upper", scratch / "upper.sqfs")
    write_tree(scratch / "base", scratch / "base.sqfs")
    layer, _ = produce(Difference(bytes(scratch / "upper.sqfs"), below=[bytes(scratch / "base.sqfs")]))
    apply(BASE, scratch / "again", form=TargetForm.PLAIN)
    apply(layer, scratch / "again", form=TargetForm.PLAIN)

    def whole(
        seen: dict[str, tuple[object, ...]],
    ) -> dict[str, tuple[object, ...]]:  # squashfs has seconds from 1970 on
        return {path: (*fact[:5], *fact[6:]) for path, fact in seen.items()}

    assert whole(facts(scratch / "again")) == whole(wanted)


def test_override_stat_of_rootless_stores_is_what_counts(scratch: Path) -> None:
    (scratch / "upper").mkdir()
    os.setxattr(scratch / "upper", "user.containers.override_stat", b"0:0:0555")
    (scratch / "upper/f").write_bytes(b"")
    os.setxattr(scratch / "upper/f", "user.containers.override_stat", b"7:8:04640")
    (scratch / "upper/dev").write_bytes(b"")
    os.setxattr(scratch / "upper/dev", "user.containers.override_stat", b"0:6:0660:block-7-1")
    layer, _ = produce(Difference(bytes(scratch / "upper")))
    found = {m.path: (m.kind, m.uid, m.gid, m.mode, m.major, m.minor, m.xattrs) for m in TarReader([layer])}
    assert found[b"./"][1:4] == (0, 0, 0o555)
    assert found[b"f"] == (0o100000, 7, 8, 0o4640, 0, 0, {})
    assert found[b"dev"] == (0o060000, 0, 6, 0o660, 7, 1, {})


def test_marks_of_an_overlay_in_a_container_are_content(scratch: Path) -> None:
    require("root")
    for name in ("base", "upper", "upper/d", "base/r", "base/r/deep"):
        (scratch / name).mkdir()
    (scratch / "upper/moved").mkdir()
    inner = {"trusted.overlay.overlay.opaque": b"y", "user.overlay.overlay..containers.override_stat": b"1:2:0600"}
    for name, value in inner.items():
        for path in ("upper", "upper/d", "base/r/deep"):
            os.setxattr(scratch / path, name, value)
    for path in ("upper", "upper/d", "base/r/deep"):
        os.setxattr(scratch / path, "trusted.overlay.origin", b"of the layer")
    os.setxattr(scratch / "upper/moved", "trusted.overlay.redirect", b"/r")
    layer, _ = produce(Difference(bytes(scratch / "upper"), below=[bytes(scratch / "base")]))
    shown = {b"trusted.overlay.opaque": b"y", b"user.containers.override_stat": b"1:2:0600"}
    found = {member.path: member.xattrs for member in TarReader([layer])}
    assert found == {b"./": shown, b"d/": shown, b"moved/": {}, b"moved/deep/": shown}


def test_bytes_that_change_meanwhile_are_an_error(scratch: Path) -> None:
    apply(BASE, scratch / "base")
    (scratch / "base/large").write_bytes(bytes(2 << 20))

    def shorten(piece: object) -> None:
        os.truncate(scratch / "base/large", 0)

    with pytest.raises(Corrupt):
        produce_layer(Difference(bytes(scratch / "base")), shorten)
