"""What is wrong in a package is found, and said with its place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerfs.pysquashfs import Compressor, WriteOptions, write_image
from layerfs.xar.header_writer import make_header
from layerfs.xar.image_file import NotImage
from layerfs.xar.verify import ENOUGH, Findings, verify
from tests.xar.forgery import Forgery, directory, file, overlapping, symlink
from tests.xar.readers import lines_of, xar

NOISE = bytes(range(256)) * 256  # 64 KiB


def look(path: Path) -> Findings:
    return verify(os.fsencode(path))


@pytest.mark.parametrize("compressor", [Compressor.GZIP, Compressor.XZ, Compressor.LZ4, Compressor.ZSTD])
def test_a_sound_image_has_no_flaws(compressor: Compressor, scratch: Path) -> None:
    entries = [
        directory(b""), file(b"a", NOISE), file(b"b", NOISE), directory(b"c"), file(b"c/d"), symlink(b"c/e", b"d"),
        file(b"empty", b""), file(b"hole", bytes(200_000) + b"x"),
    ]  # fmt: skip
    write_image(scratch / "image", entries, WriteOptions(compressor=compressor, block_size=16384))
    report = look(scratch / "image")
    assert (report.flaws, report.inodes, report.size) == ([], 8, 2 * 65536 + 5 + 200_001)
    assert 5 <= report.blocks <= 9  # a and b share theirs


def test_a_sound_xar_has_no_flaws_and_no_remarks(scratch: Path) -> None:
    write_image(scratch / "image", [directory(b""), file(b"run", mode=0o755)])
    header = make_header(uuid="8f583eae", version="1", target="run")
    (scratch / "app.xar").write_bytes(header + (scratch / "image").read_bytes())
    assert look(scratch / "app.xar") == Findings(inodes=2, blocks=1, size=5)


def test_what_one_reader_refuses_is_remarked_and_no_flaw(scratch: Path) -> None:
    write_image(scratch / "image", [directory(b"")])
    (scratch / "app.xar").write_bytes(xar(lines_of(VERSION=None), image=(scratch / "image").read_bytes()))
    report = look(scratch / "app.xar")
    assert (report.flaws, [remark.said for remark in report.remarks]) == ([], ["VERSION is missing"])


def test_a_bad_header_is_a_flaw_with_its_line(scratch: Path) -> None:
    (scratch / "app.xar").write_bytes(xar(lines_of(UUID="me")))
    assert look(scratch / "app.xar").flaws == ['line 3: expected UUID to be 8 hex digits, found "me"']


def test_what_is_no_package_is_said_to_be_none(scratch: Path) -> None:
    (scratch / "text").write_text("hello")
    with pytest.raises(NotImage, match="text is neither a squashfs image nor a XAR"):
        look(scratch / "text")
    with pytest.raises(FileNotFoundError):
        look(scratch / "absent")


TREE = [
    directory(b""), directory(b"sub"), directory(b"sub/deep"), file(b"sub/deep/file", b"fragment"),
    file(b"tall", NOISE), file(b"wide", NOISE[::-1]), symlink(b"zlink", b"tall"),
]  # fmt: skip

LIES: dict[str, tuple[Callable[[Forgery], None], str]] = {
    "a name that leads up": (lambda f: f.put(f.name(b"tall"), "4s", b"../x"), "/: directory "),
    "a name twice": (lambda f: f.put(f.name(b"wide"), "4s", b"tall"), "/: directory "),
    "names in disorder": (lambda f: f.put(f.name(b"wide"), "4s", b"aaaa"), "/: directory "),
    "an inode nowhere": (lambda f: f.put(f.name(b"tall") - 8, "<H", 8000), "/tall: inode "),
    "another type": (lambda f: f.put(f.name(b"tall") - 4, "<H", 1), "type"),
    "a directory in itself": (lambda f: f.swap(b"deep", b"sub"), "/sub/deep: is a directory that has a second place"),
    "one number for two": (lambda f: f.put(f.inode(b"wide") + 12, "<I", 1), "number"),
    "too large a file": (lambda f: f.put(f.inode(b"sub/deep/file") + 28, "<I", 4000), "/sub/deep/file: wants bytes"),
    "a fragment of none": (lambda f: f.put(f.inode(b"sub/deep/file") + 20, "<I", 77), "/sub/deep/file: "),
    "a block elsewhere": (lambda f: f.put(f.inode(b"tall") + 16, "<I", 1 << 30), "/tall: "),
    "an empty symlink": (lambda f: f.put(f.inode(b"zlink") + 20, "<I", 0), "/zlink: "),
    "an owner of none": (lambda f: f.put(f.inode(b"tall") + 4, "<H", 9), "/tall: "),
    "more inodes": (lambda f: f.put(4, "<I", 99), "inode"),
}


@pytest.mark.parametrize(("lie", "said"), LIES.values(), ids=LIES)
def test_a_lie_is_found_and_its_place_is_named(lie: Callable[[Forgery], None], said: str, scratch: Path) -> None:
    forgery = Forgery(scratch / "image", TREE)
    assert look(forgery.path).flaws == []
    lie(forgery)
    flaws = look(forgery.path).flaws
    assert any(said in flaw for flaw in flaws), flaws


def test_damaged_data_are_found_in_every_file_that_shares_them(scratch: Path) -> None:
    options = WriteOptions(block_size=4096)
    write_image(scratch / "image", [directory(b""), file(b"a", NOISE), file(b"b", NOISE), file(b"c")], options)
    data = bytearray((scratch / "image").read_bytes())
    data[100:110] = bytes(10)  # the first block begins at 96, behind the superblock
    (scratch / "image").write_bytes(data)
    flaws = look(scratch / "image").flaws
    assert [flaw.split(":")[0] for flaw in flaws] == ["/a", "/b"]


@pytest.mark.parametrize("kept", [5000, 66000, 66100])
def test_a_truncated_image_is_corrupt(kept: int, scratch: Path) -> None:
    forgery = Forgery(scratch / "image", TREE)
    assert len(forgery.data) > 131072
    forgery.path.write_bytes(forgery.data[:kept])
    assert look(forgery.path).flaws


def test_the_search_ends_when_very_much_is_wrong(scratch: Path) -> None:
    forgery = Forgery(scratch / "image", [directory(b""), *(file(b"%04d" % number) for number in range(300))])
    for number in range(300):
        forgery.put(forgery.name(b"%04d" % number) - 8, "<H", 8100)
    flaws = look(forgery.path).flaws
    assert (len(flaws), flaws[-1]) == (ENOUGH + 1, "and so on: the search ends here")


def test_a_target_that_is_nowhere_is_a_warning(scratch: Path) -> None:
    write_image(scratch / "image", [directory(b""), file(b"run", mode=0o755)])
    image = (scratch / "image").read_bytes()
    warnings = {}
    for target, depends in (("run", ()), ("walk", ()), ("run/x", ()), ("walk", ("legs.xar",)), (None, ())):
        header = make_header(uuid="8f583eae", version="1", target=target, dependencies=depends)
        (scratch / "app.xar").write_bytes(header + image)
        warnings[target, depends] = look(scratch / "app.xar").warnings
    assert {key: said for key, said in warnings.items() if said} == {
        ("walk", ()): ["the target walk is not in the image"]
    }


def test_listings_that_overlap_end_the_search(scratch: Path) -> None:
    forgery = overlapping(scratch / "image")
    flaws = look(forgery.path).flaws
    assert any("directories overlap" in flaw for flaw in flaws), flaws
