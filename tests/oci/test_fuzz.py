"""Damaged and random tars are read or refused; nothing outside is touched. A longer run: FUZZ=600 [s], FUZZ_SEED=2."""

import gzip
import os
import random
import time
from pathlib import Path

import pytest
from backports import zstd

from layerfs.errors import LayerfsError
from layerfs.oci.below import NothingBelow, UnionBelow
from layerfs.oci.layer import pack_layer
from layerfs.oci.target import Limits, TargetForm
from layerfs.snapshots.driver import Nesting
from layerfs.sys import dirs
from tests.oci.tars import END, apply, below, directory, feeder, file, header, link, look, pax, symlink

pytestmark = pytest.mark.usefixtures("each_way")

SECONDS = float(os.environ.get("FUZZ", "3"))
LIMITS = Limits(size=1 << 20, entries=500)
NAMES = [b"a", b"b", b"a/b", b"a/b/c", b".wh.a", b"a/.wh.b", b"a/.wh..wh..opq", b".wh..wh..opq", b"..", b".", b"/",
b"../x",
         b"/a/../../b", b".wh..wh.plnk/1", b"c", b"c/d", b"\xff", b"a//b/", b".wh.", b".wh...", b"c/.wh.d",
         b".wh.c/x"]  # fmt: skip
TARGETS = [b"a", b"/", b"..", b"../../outside", b"/etc", b"c/d", b".", b"b", b".wh..wh.plnk/1", b"@"]


XATTRS = [b"user.x", b"trusted.overlay.opaque", b"user.overlay.whiteout", b"user.containers.override_stat", b"user.",
          b"trusted.overlay.overlay.opaque", b"trusted.overlay.layerfs.device", b"security.capability",
          b"nonsense"]  # fmt: skip


def entry(dice: random.Random, outside: bytes) -> bytes:
    name, target = dice.choice(NAMES), dice.choice(TARGETS).replace(b"@", outside)
    kind = dice.randrange(10)
    if kind == 0:
        return directory(name, mode=dice.choice([0, 0o700, 0o7777]))
    if kind == 1:
        return symlink(name, target[:100])
    if kind == 2:
        return link(name, target[:100])
    if kind == 3:
        return header(name, dice.choice([b"3", b"4", b"6"]), major=dice.randrange(3), minor=dice.randrange(3))
    if kind == 4:
        records = {
            b"path": dice.choice(NAMES),
            dice.choice([b"size", b"uid", b"mtime", b"GNU.sparse.map"]): b"%d" % dice.randrange(99),
        }
        return pax(records) + file(name, b"x" * dice.randrange(3))
    if kind == 5:
        made = file(name) if dice.randrange(2) else directory(name)
        return pax({b"SCHILY.xattr." + dice.choice(XATTRS): b"y"}) + made
    if kind == 6:
        sparse = {b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"%d" % dice.randrange(5000)}
        pairs = b"".join(b"%d\n" % dice.randrange(3000) for _ in range(dice.randrange(7)))
        return pax(sparse) + file(name, (b"%d\n" % dice.randrange(4) + pairs).ljust(512, b"\0") + bytes(512))
    return file(name, bytes(dice.randrange(1500)))


def damaged(dice: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(dice.randrange(3)):
        made[dice.randrange(len(made))] = dice.randrange(256)
    whole = bytes(made[: dice.randrange(len(made))] if dice.randrange(9) == 0 else made)
    if dice.randrange(4) == 0:
        whole = gzip.compress(whole) if dice.randrange(2) else zstd.compress(whole)
        whole = whole[:-1] if dice.randrange(9) == 0 else whole + dice.choice([b"", b"\0" * 9, b"x"])
    return whole


def remove(path: bytes) -> None:
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        dirs.remove(fd, os.path.basename(path))
    finally:
        os.close(fd)


def attempt(dice: random.Random, data: bytes, place: Path, lower: UnionBelow | NothingBelow) -> bool:
    """Apply a layer; tell whether it is there, or else nothing of it. A plain tree is its owner's to throw away."""
    form = dice.choice(["plain", "overlay", "image"])
    nesting = dice.choice(list(Nesting))
    try:
        if form == "image":
            pack_layer(feeder(data), bytes(place), lower, nesting=nesting, limits=LIMITS)
        else:
            kept = {"form": TargetForm.PLAIN} if form == "plain" else {"below": lower}
            apply(data, place, limits=LIMITS, nesting=nesting, **kept)
    except (LayerfsError, OSError):
        return form == "plain" or (os.listdir(place) == [] if form == "overlay" else not place.exists())
    return True


def test_no_tar_harms_anything(scratch: Path) -> None:
    outside = scratch / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"untouched")
    apply(directory(b"a") + directory(b"a/b") + file(b"a/b/c", b"1") + symlink(b"c", b"a") + END, scratch / "base")
    before, base = look(outside), look(scratch / "base")
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    end, number = time.monotonic() + SECONDS, 0
    with below(scratch / "base") as lower:
        while time.monotonic() < end:
            number += 1
            dice = random.Random(seed * 1_000_000 + number)
            data = damaged(dice, b"".join(entry(dice, bytes(outside)) for _ in range(dice.randrange(1, 12))) + END)
            place = scratch / f"t{number}"
            assert attempt(dice, data, place, lower), (seed, number)
            if place.exists():
                remove(os.fsencode(place))
    assert number > 5
    assert (look(outside), look(scratch / "base")) == (before, base)
    assert sorted(path.name for path in scratch.iterdir()) == ["base", "outside"]
