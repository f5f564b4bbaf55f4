"""Runs of plain entries give the trees that their entries give one by one."""

import gzip
import random
from dataclasses import replace
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, LayerfsError
from layerfs.oci import directory as target
from layerfs.oci.target import Limits
from tests.host import require
from tests.oci.tars import END, Entry, apply, brief, directory, file, header, link, look, pax, symlink


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return where the lengths of runs will be."""
    assert target.Batch is not None
    found: list[int] = []
    real = target.Batch.write

    def counted(*asked: object) -> object:
        written = real(*asked)  # type: ignore[arg-type]
        found.append(len(written.headers))
        return written

    monkeypatch.setattr(target.Batch, "write", counted)
    return found


def tree(root: Path) -> dict[str, Entry]:
    """Describe a tree but for times that are those of this moment: the root's, and whiteouts'."""
    found = look(root)
    del found["."]
    return {path: replace(entry, mtime_ns=0) if entry.kind == "c" else entry for path, entry in found.items()}


def test_directories_and_what_is_odd_are_all_that_is_not_in_a_run(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("root")
    found = runs(monkeypatch)
    layer = directory(b"./d/") + b"".join(file(b"./d/%d" % n, b"x") for n in range(20)) + symlink(b"./d/s", b"0")
    layer += pax({b"mtime": b"1.5"}) + file(b"./d/p") + file(b"./top", b"y") + file(b"./d/last")
    done = apply(layer + END, scratch / "t")
    assert [count for count in found if count] == [21, 1, 1]
    assert (done.outcome.entries, done.outcome.size) == (25, 21)
    assert set(brief(scratch / "t")) == {"d", "top", "d/s", "d/p", "d/last", *(f"d/{n}" for n in range(20))}


LAYERS = {
    "a name that was a hard link": link(b"a", b"z") + file(b"a", b"new") + file(b"z", b"z"),
    "a name twice": file(b"x") + file(b"a", b"1") + file(b"a", b"2") + symlink(b"a", b"x") + file(b"b"),
    "a directory that becomes a file": directory(b"d") + file(b"d/x") + file(b"y") + file(b"d", b"f"),
    "below a symlink of the layer": directory(b"e") + symlink(b"l", b"e") + file(b"l/x", b"1") + file(b"l/y"),
    "below a symlink that leads out": symlink(b"l", b"/..") + file(b"l/x", b"1") + file(b"l/y"),
    "a symlink that is exchanged": (
        directory(b"e") + directory(b"f") + symlink(b"l", b"e") + file(b"l/x") + symlink(b"l", b"f")
        + file(b"l/x", b"2") + file(b"l/y")
    ),
    "names that lead back": directory(b"d") + file(b"d/../a") + file(b"d/../b") + file(b"/c") + file(b"../d/e"),
    "times and owners": file(b"a", mtime=0) + file(b"b", uid=5, gid=6, mode=0o4711) + file(b"c", uid=3_000_000),
    "a global header": pax({b"uid": b"7"}, b"g") + file(b"a") + file(b"b"),
    "a time that no header has": file(b"a") + file(b"b", mtime=-5) + file(b"c"),
    "whiteouts between": file(b"a") + file(b".wh.b") + file(b"c") + file(b"d/.wh.x") + file(b"d/y"),
    "a prefix": directory(b"p") + header(b"a", prefix=b"p/q") + header(b"b", prefix=b"p/q") + file(b"p/c"),
    "no end": file(b"a") + file(b"b") + file(b"c", b"1"),
    "an empty part": directory(b"d") + file(b"d//a") + file(b"d//b") + file(b"./d/./c"),
    "other magics": header(b"a", magic=b"ustar  \0", late={345: b"junk"}) + header(b"b", magic=bytes(8)) + file(b"c"),
    "a symlink that claims bytes": symlink(b"a", b"x", size=5) + file(b"b") + file(b"c"),
}  # fmt: skip


@pytest.mark.parametrize("size", [100, 1 << 20])
@pytest.mark.parametrize("case", LAYERS)
def test_trees_are_the_same(case: str, size: int, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`size`: how many bytes come at a time, as a run ends where they do."""
    require("root")
    apply(LAYERS[case], scratch / "c", step=size)
    monkeypatch.setattr(target, "Batch", None)
    apply(LAYERS[case], scratch / "python", step=size)
    assert tree(scratch / "c") == tree(scratch / "python")


def test_random_tars_give_the_same_trees_or_errors(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    names = [b"a", b"b", b"d", b"d/a", b"d/b", b"./d/c", b"e/a", b"l/a", b"l", b"d/.wh.a", b"d/../e/b", b"/d/a"]
    batch = target.Batch
    for seed in range(150):
        dice = random.Random(seed)
        layer = b""
        for _ in range(dice.randrange(1, 14)):
            name = dice.choice(names)
            kind = dice.randrange(8)
            layer += (
                directory(name, mode=0o711) if kind == 0
                else symlink(name, dice.choice([b"d", b"/e", b"a", b"../.."])) if kind == 1
                else link(name, dice.choice(names)) if kind == 2
                else pax({b"mtime": b"3.25"}) + file(name) if kind == 3
                else file(name, bytes(dice.randrange(3000)), mode=dice.choice([0o600, 0o4755]), uid=dice.randrange(2))
            )  # fmt: skip
        found: list[object] = []
        for way in ("c", "python"):
            monkeypatch.setattr(target, "Batch", batch if way == "c" else None)
            place = scratch / f"{seed}-{way}"
            try:
                apply(gzip.compress(layer + END), place)
                found.append(tree(place))
            except LayerfsError as error:
                found.append(str(error))
        assert found[0] == found[1], seed


def test_limits_hold_in_a_run(scratch: Path) -> None:
    require("root")
    layer = b"".join(file(b"%d" % number, b"xx") for number in range(9)) + END
    with pytest.raises(InvalidArgument, match="more than 5 entries"):
        apply(layer, scratch / "a", limits=Limits(entries=5))
    with pytest.raises(InvalidArgument, match="more than 9"):
        apply(layer, scratch / "b", limits=Limits(size=9))
    assert (brief(scratch / "a"), brief(scratch / "b")) == ({}, {})


def test_default_acl_of_a_directory_is_not_inherited_by_what_the_layer_has_in_it(each_way: str, scratch: Path) -> None:
    """It was set before the files came, and each got an ACL that its entry has not."""
    require("root")
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, perm, who in [
            (1, 7, 0xFFFFFFFF),
            (2, 7, 12),
            (4, 5, 0xFFFFFFFF),
            (16, 7, 0xFFFFFFFF),
            (32, 0, 0xFFFFFFFF),
        ]
    )
    begin = pax({b"SCHILY.xattr.system.posix_acl_default": acl}) + directory(b"d")
    apply(begin + file(b"d/f", mode=0o640) + directory(b"d/e", mode=0o751) + file(b"d/e/g") + END, scratch / "t")
    found = look(scratch / "t")
    assert {name: (entry.mode, entry.xattrs) for name, entry in found.items() if name != "."} == {
        "d": (0o755, (("system.posix_acl_default", acl),)),
        "d/f": (0o640, ()),
        "d/e": (0o751, ()),
        "d/e/g": (0o644, ()),
    }
