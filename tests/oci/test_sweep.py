"""Deletions in a plain tree: what the layer brought stays, wherever it is."""

from pathlib import Path

from tests.oci.tars import END, brief, directory, entry_of, file, look, pax, piled

BASE = directory(b"d", mode=0o700, uid=5) + b"".join(
    file(b"d/%d/%d/f" % (a, b), b"old") for a in range(3) for b in range(3)
)


def test_deleted_tree_keeps_what_is_new(scratch: Path) -> None:
    layer = file(b"d/1/1/new", b"n") + file(b".wh.d") + END
    assert brief(piled([BASE + END, layer], scratch / "t")) == {"d": "d", "d/1": "d", "d/1/1": "d", "d/1/1/new": "f:n"}
    assert entry_of(scratch / "t/d").owner == (0, 0)
    assert entry_of(scratch / "t/d").mode == 0o755


def test_opaque_directory_keeps_what_is_new_and_itself(scratch: Path) -> None:
    layer = file(b"d/.wh..wh..opq") + directory(b"d/2", mode=0o711) + END
    found = look(piled([BASE + END, layer], scratch / "t"))
    assert set(found) == {".", "d", "d/2"}
    assert (found["d"].mode, found["d"].owner, found["d/2"].mode) == (0o700, (5, 0), 0o711)


def test_deep_tree_is_deleted_without_recursion(scratch: Path) -> None:
    deep = b"/".join([b"d"] * 600)
    assert brief(piled([pax({b"path": deep + b"/f"}) + file(b"f") + END, file(b".wh.d") + END], scratch / "t")) == {}


def test_whiteouts_of_what_is_not_there(scratch: Path) -> None:
    layer = file(b"d/0/0/.wh.x") + file(b"no/.wh.x") + file(b"d/0/0/f/.wh.x") + file(b"x/.wh..wh..opq") + END
    before = brief(piled([BASE + END], scratch / "t"))
    assert brief(piled([layer], scratch / "t")) == before
