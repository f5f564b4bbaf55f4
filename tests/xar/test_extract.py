"""An image's tree comes out as unsquashfs has it, and nothing comes out anywhere else."""

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerfs.errors import InvalidArgument, NotFound
from layerfs.pysquashfs import DirEntry, SquashfsImage, write_image, write_tree
from layerfs.xar.extract import Extraction, ExtractOptions, extract
from tests.e2e.manifest import manifest
from tests.host import BIN, Person, require
from tests.images import make_image
from tests.waiting import PATIENCE
from tests.xar.forgery import Forgery, directory, file, overlapping, symlink
from tests.xar.trees import NOISE, date, plain_tree, root_s_tree, take_out, told, without


@pytest.mark.parametrize("compression", ["gzip", "xz", "lz4", "zstd"])
def test_root_gets_what_unsquashfs_gets(compression: str, scratch: Path) -> None:
    require("root")
    (scratch / "tree").mkdir()
    root_s_tree(scratch / "tree")
    image = make_image(scratch / "image", scratch / "tree", "-comp", compression)
    assert take_out(image, scratch / "ours") == Extraction(entries=18)
    subprocess.run(
        ["unsquashfs", "-no-progress", "-d", scratch / "theirs", image],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert manifest(str(scratch / "ours")) == manifest(str(scratch / "theirs"))
    links = ("nlink", "same as")  # mksquashfs makes two of a symlink with two names
    assert without(manifest(str(scratch / "ours")), *links) == without(manifest(str(scratch / "tree")), *links)


def test_what_is_written_by_us_comes_out_as_it_went_in(scratch: Path) -> None:
    (scratch / "tree").mkdir()
    plain_tree(scratch / "tree")
    date(scratch / "tree")
    write_tree(scratch / "tree", scratch / "image")
    assert take_out(scratch / "image", scratch / "out") == Extraction(entries=14)
    assert manifest(str(scratch / "out")) == manifest(str(scratch / "tree"))


def as_person(person: Person, image: Path, target: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return person.run([BIN / "layerfs", "xar", "extract", image, "-C", target, *words], check=False)


TREE = [
    directory(b""), directory(b"a"), directory(b"a/b"), file(b"a/b/c"), file(b"a/d"), directory(b"e"), file(b"e/f"),
    file(b"g"),
]  # fmt: skip


def names(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], {"a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"}),
        (["/"], {"a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"}),
        (["g"], {"g"}),
        (["a"], {"a", "a/b", "a/b/c", "a/d"}),
        (["./a/b/", "/e/f"], {"a", "a/b", "a/b/c", "e", "e/f"}),
        (["a/b", "a"], {"a", "a/b", "a/b/c", "a/d"}),
        (["a", "a/b"], {"a", "a/b", "a/b/c", "a/d"}),
    ],
    ids=["nothing", "root", "file", "folder", "two spellings", "inner first", "outer first"],
)
def test_only_what_is_asked_for_is_taken_out(paths: list[str], expected: set[str], scratch: Path) -> None:
    write_image(scratch / "image", TREE)
    assert take_out(scratch / "image", scratch / "out", *paths) == Extraction(entries=len(expected))
    assert names(scratch / "out") == expected


@pytest.mark.parametrize("path", ["nope", "a/nope", "g/x", "../a", "a/../g"])
def test_a_path_that_is_not_there_is_said_before_anything_is_written(path: str, scratch: Path) -> None:
    write_image(scratch / "image", TREE)
    with pytest.raises(NotFound, match=f"no such path in the image: {path}"):
        take_out(scratch / "image", scratch / "out", "g", path)
    assert not (scratch / "out").exists()


def test_an_empty_directory_is_taken_as_it_is_and_a_used_one_only_by_force(scratch: Path) -> None:
    write_image(scratch / "image", TREE)
    out = scratch / "out"
    out.mkdir(mode=0o711)
    take_out(scratch / "image", out, "g")
    assert stat.S_IMODE(out.stat().st_mode) == 0o711
    with pytest.raises(InvalidArgument, match="out is not empty"):
        take_out(scratch / "image", out)
    assert names(out) == {"g"}
    assert take_out(scratch / "image", out, force=True) == Extraction(entries=7)


def test_force_replaces_what_is_in_the_way_and_follows_no_symlink(scratch: Path) -> None:
    write_image(scratch / "image", TREE)
    out, outside = scratch / "out", scratch / "outside"
    (outside / "b").mkdir(parents=True)
    (outside / "kept").write_text("kept")
    (out / "e/f").mkdir(parents=True)  # a directory where a file should be
    (out / "a").symlink_to(outside)
    (out / "g").symlink_to(outside / "kept")
    (out / "more").write_text("stays")
    outcome = take_out(scratch / "image", out, force=True)
    assert told(outcome.left_out) == [(b"e/f", "Is a directory")]
    assert names(outside) == {"b", "kept"}
    assert (outside / "kept").read_text() == "kept"
    assert ((out / "a").is_symlink(), (out / "g").is_symlink()) == (False, False)
    assert (out / "a/b/c").read_text() == (out / "g").read_text() == "data\n"
    assert (out / "more").read_text() == "stays"


def test_the_target_may_be_a_symlink_but_not_a_file(scratch: Path) -> None:
    write_image(scratch / "image", TREE)
    (scratch / "real").mkdir()
    (scratch / "way").symlink_to("real")
    take_out(scratch / "image", scratch / "way", "g")
    assert names(scratch / "real") == {"g"}
    (scratch / "plain").touch()
    with pytest.raises(NotADirectoryError):
        take_out(scratch / "image", scratch / "plain")


def test_a_deep_tree_comes_out(scratch: Path) -> None:
    entries = [directory(b"/".join([b"d"] * depth)) for depth in range(1, 1100)]
    write_image(scratch / "image", [directory(b""), *entries, file(entries[-1].path + b"/f")])
    assert take_out(scratch / "image", scratch / "out") == Extraction(entries=1100)
    subprocess.run(["rm", "-r", scratch / "out"], check=True, timeout=PATIENCE)  # too deep for shutil


def test_hard_links_in_a_directory_that_closes_itself_become_copies(person: Person, scratch: Path) -> None:
    require("root", "person")
    first, second = file(b"a/x"), file(b"b/y")
    second.link = b"a/x"
    write_image(scratch / "image", [directory(b""), directory(b"a", 0), first, directory(b"b"), second])
    done = as_person(person, scratch / "image", person.home / "out")
    assert (done.returncode, done.stderr) == (
        0,
        "layerfs: warning: /b/y: is a copy: no link to /a/x: Permission denied\n",
    )
    assert (person.home / "out/b/y").read_text() == (person.home / "out/a/x").read_text() == "data\n"


def test_damaged_files_are_left_out_and_the_others_come(scratch: Path) -> None:
    forgery = Forgery(
        scratch / "image", [directory(b""), file(b"a"), file(b"bad", NOISE), directory(b"c"), file(b"c/d")]
    )
    forgery.put(forgery.inode(b"bad") + 16, "<I", 1 << 30)
    outcome = take_out(forgery.path, scratch / "out")
    assert [path for path, _ in told(outcome.left_out)] == [b"bad"]
    assert names(scratch / "out") == {"a", "c", "c/d"}


@pytest.mark.parametrize(
    ("name", "lie"),
    [(b"tall", b"../x"), (b"tall", b"/tmp"), (b"tall", b"ab/c"), (b"wide", b"tall")],
)
def test_a_directory_with_a_name_that_is_none_is_left_out(name: bytes, lie: bytes, scratch: Path) -> None:
    entries = [directory(b""), directory(b"in"), file(b"in/tall"), file(b"in/wide"), file(b"out")]
    forgery = Forgery(scratch / "image", entries)
    forgery.put(forgery.name(name), "4s", lie)
    outcome = take_out(forgery.path, scratch / "place")
    assert [path for path, _ in told(outcome.left_out)] == [b"in"]
    assert names(scratch) == {"image", "place", "place/out"}


def test_a_directory_in_itself_ends(scratch: Path) -> None:
    forgery = Forgery(scratch / "image", [directory(b""), directory(b"deep"), directory(b"deep/down")])
    forgery.swap(b"down", b"deep")
    outcome = take_out(forgery.path, scratch / "out")
    assert told(outcome.left_out) == [(b"deep/down", "is a directory that has a second place in the tree")]


def test_directories_that_share_a_listing_do_not_fill_the_disk(scratch: Path) -> None:
    outcome = take_out(overlapping(scratch / "image").path, scratch / "out")
    assert 18 <= len([why for _, why in outcome.left_out if "overlap" in why]) <= 20
    assert len(names(scratch / "out")) < 3 * 901


@contextmanager
def believing(image: Path, listings: dict[bytes, list[bytes]]) -> Iterator[SquashfsImage]:
    """An image whose reader is taken in by hostile listings: its names, in order, are replaced."""

    class Believing(SquashfsImage):
        def readdir(self, ref: int) -> list[DirEntry]:
            entries = super().readdir(ref)
            told = listings.get(b" ".join(entry.name for entry in entries), [entry.name for entry in entries])
            return [entry._replace(name=name) for entry, name in zip(entries, told, strict=True)]

    with Believing(image) as opened_image:
        yield opened_image


HOSTILE = {
    "names": ([b"..", b".", b"", b"a/b", b"/etc/x", b"n\0l"], [b"..", b".", b"", b"a/b", b"/etc/x", b"n\0l"]),
    "twice": ([b"a", b"a", b"c", b"d", b"e", b"f"], [b"a"]),
    "a file through a symlink": ([b"a", b"b", b"c", b"d", b"e", b"e"], [b"e"]),
}


@pytest.mark.parametrize(("listed", "left_out"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_reach_nothing_outside_even_if_the_reader_lists_them(
    listed: list[bytes], left_out: list[bytes], scratch: Path
) -> None:
    (scratch / "outside").mkdir()
    outside = os.fsencode(scratch / "outside")
    entries = [file(b"a"), file(b"b"), file(b"c"), file(b"d"), symlink(b"e", outside), directory(b"f"), file(b"f/in")]
    write_image(scratch / "image", [directory(b""), *entries])
    with believing(scratch / "image", {b"a b c d e f": listed}) as image:
        outcome = extract(image, os.fsencode(scratch / "place"), ExtractOptions())
    assert [path for path, _ in told(outcome.left_out)] == left_out
    assert names(scratch / "outside") == set()
    assert {path.name for path in scratch.iterdir()} == {"image", "outside", "place"}


@pytest.mark.mounts
def test_a_full_disk_is_the_end_and_not_an_omission(scratch: Path) -> None:
    require("root")
    write_image(scratch / "image", [directory(b""), file(b"a", NOISE), file(b"b", NOISE)])
    (scratch / "small").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs"]
    subprocess.run([*words, scratch / "small"], check=True, timeout=PATIENCE)
    with pytest.raises(OSError) as caught:
        take_out(scratch / "image", scratch / "small/out")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, os.fsencode(scratch / "small/out"))
    assert names(scratch / "small/out") == {"a"}
