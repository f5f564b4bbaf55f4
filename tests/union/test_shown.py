"""What stat says, with some of it replaced; and what tells one object from another."""

import os
from pathlib import Path

from layerfs.union.shown import Shown, fingerprint, has_holes


def test_a_copy_says_the_same_but_for_what_is_replaced(scratch: Path) -> None:
    (scratch / "f").write_bytes(b"data")
    st = os.stat(scratch / "f")
    shown = Shown(st, nlink=7)
    same = [field for field in Shown.__slots__ if getattr(shown, field) == getattr(st, field)]
    assert set(Shown.__slots__) - set(same) == {"st_nlink"}
    assert (shown.st_nlink, Shown(shown).st_nlink) == (7, 7)


def test_a_fingerprint_is_of_the_object_and_its_permissions(scratch: Path) -> None:
    paths = [scratch / "a", scratch / "b"]
    for path in paths:
        path.write_bytes(b"")
    prints = [fingerprint(os.stat(path)) for path in paths]
    assert prints[0] != prints[1] and 0 not in prints
    paths[0].write_bytes(b"longer")
    assert fingerprint(os.stat(paths[0])) == prints[0]
    os.chmod(paths[0], 0o700)
    assert fingerprint(os.stat(paths[0])) != prints[0]


def test_holes_are_told_by_blocks(scratch: Path) -> None:
    with open(scratch / "f", "wb") as file:
        assert not has_holes(os.fstat(file.fileno()))
        file.truncate(1 << 20)
        assert has_holes(os.fstat(file.fileno()))
        file.write(b"x" * (1 << 20))
        file.flush()
        assert not has_holes(os.fstat(file.fileno()))
