"""The layers below: directories and images alike."""

from pathlib import Path

from layerfs.oci.below import NothingBelow, UnionBelow
from tests.oci.tars import END, apply, brief, directory, entry_of, file, link


def test_image_below_gives_what_a_directory_gives(scratch: Path) -> None:
    """A hard link to a file in an image takes its content from there; whiteouts look there."""
    from layerfs.pysquashfs import write_tree

    base = directory(b"d", mode=0o711, uid=4) + file(b"d/f", b"f" * 300_000, mode=0o640) + END
    apply(base, scratch / "base")
    write_tree(scratch / "base", scratch / "image")
    layer = link(b"l", b"d/f") + file(b"d/g") + file(b".wh.no") + file(b"d/.wh.no") + END
    for number, lower in enumerate([scratch / "base", scratch / "image"]):
        with UnionBelow([bytes(lower)]) as below:
            apply(layer, scratch / str(number), below=below)
        found = brief(scratch / str(number))
        assert found == {"l": "f:" + "f" * 300_000, "d": "d", "d/f": "f:" + "f" * 300_000, "d/g": "f"}
        assert (entry_of(scratch / str(number) / "d").mode, entry_of(scratch / str(number) / "l").mode) == (
            0o711,
            0o640,
        )


def test_find_follows_no_symlink_and_sees_whiteouts(scratch: Path) -> None:
    apply(directory(b"d") + file(b"d/f") + file(b"g") + END, scratch / "a")
    (scratch / "a/s").symlink_to("d")
    with UnionBelow([bytes(scratch / "a")]) as lower:
        apply(file(b".wh.g") + END, scratch / "b", below=lower)
        assert lower.find(b"s/f") is None
        assert lower.find(b"g/h") is None
        assert sorted(lower.names(b"")) == [b"d", b"g", b"s"]
    with UnionBelow([bytes(scratch / "b"), bytes(scratch / "a")]) as lower:
        assert lower.find(b"g") is None
        assert lower.find(b"d/f") is not None
    assert NothingBelow().find(b"") is None
